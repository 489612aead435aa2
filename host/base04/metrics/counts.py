"""What is counted while requests are served: cheap to add to, and read only when somebody asks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The upper bounds of durations, in seconds; what took longer is in one more bucket."""

_MOST: Final = 5_000
"""How many different keys are told apart; all others are counted together."""

OTHERS: Final = "others"

KNOWN_METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)
"""The methods that are told apart: clients can make up any."""


@dataclass(slots=True)
class Durations:
    """How many there were, how long they took together (s), and how many fell into each bucket."""

    total: int = 0
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.total += 1
        self.seconds += seconds
        self.buckets[bisect_left(BUCKETS_S, seconds)] += 1


class Counts:
    """Answers by route, method and status; runs of actions, and executions in the background, by name and outcome.

    Of executions also how long they waited, by name; and refusals of callers by the level whose limit it was.
    """

    __slots__ = ("actions", "executions", "refusals", "requests", "waits")

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, int], Durations] = {}
        self.actions: dict[tuple[str, str], Durations] = {}
        self.executions: dict[tuple[str, str], Durations] = {}
        self.waits: dict[tuple[str], Durations] = {}
        self.refusals: dict[str, int] = {}

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer. ``route`` is one of a few names, never a path that a client can make up."""
        key = (route, method, status)
        found = self.requests.get(key)
        if found is None:
            known = method if method in KNOWN_METHODS else OTHERS
            found = _made(self.requests, (route, known, status), (route, OTHERS, status))
        found.add(seconds)

    def ran(self, action: str, outcome: str, seconds: float) -> None:
        """Count a run of an action."""
        key = (action, outcome)
        found = self.actions.get(key)
        if found is None:
            found = _made(self.actions, key, (OTHERS, outcome))
        found.add(seconds)

    def performed(self, action: str, outcome: str, seconds: float) -> None:
        """Count an execution in the background that has ended here."""
        _made(self.executions, (action, outcome), (OTHERS, outcome)).add(seconds)

    def waited(self, action: str, seconds: float) -> None:
        """Count how long an execution waited for its turn."""
        _made(self.waits, (action,), (OTHERS,)).add(max(0.0, seconds))

    def refused(self, levels: Iterable[str]) -> None:
        """Count a call that was refused, at each level that refused it; there are a few."""
        for level in levels:
            self.refusals[level] = self.refusals.get(level, 0) + 1


def _made(table: dict[Any, Durations], key: Any, together: Any) -> Durations:
    found: Durations | None = table.get(key)
    return found or table.setdefault(key if len(table) < _MOST else together, Durations())
