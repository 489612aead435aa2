"""How often hooks of plugins were called, and how long that took; kept only where hook calls are traced."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from base04_hookspecs.module import HookTiming

Stage = Literal["collect", "call"]

COLLECT: Final = "collect"
"""The hook itself was asked for what it contributes."""
CALL: Final = "call"
"""Something was called that it has returned."""


@dataclass(slots=True)
class Timing:
    """A number of calls: how long they took together and at most, in seconds."""

    count: int = 0
    total: float = 0.0
    longest: float = 0.0


class HookTimings:
    """Adds up calls by plugin, hook and stage.

    Nothing is locked: where several threads call the same ``def``, an addition may be lost.
    """

    def __init__(self) -> None:
        self._table: dict[tuple[str, str, Stage], Timing] = {}

    def add(self, plugin: str, hook: str, stage: Stage, seconds: float) -> None:
        """Count a call."""
        timing = self._table.setdefault((plugin, hook, stage), Timing())
        timing.count += 1
        timing.total += seconds
        timing.longest = max(timing.longest, seconds)

    def __iter__(self) -> Iterator[tuple[tuple[str, str, Stage], Timing]]:
        return iter(sorted(self._table.items()))

    def of(self, plugin: str) -> list[HookTiming]:
        """Return those of one plugin as JSON."""
        return [
            {"hook": hook, "stage": stage, "count": it.count, "total": it.total, "max": it.longest}
            for (name, hook, stage), it in self
            if name == plugin
        ]
