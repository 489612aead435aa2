"""What the check script answers, read back."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from base04_builtin.rate_limiter.identifiers import Subject
from base04_builtin.rate_limiter.meter import Meter
from base04_hookspecs.rate_limiter import LimitState, RateLimitResult

ENDLESS_RETRY_S: Final = 86_400.0
"""What a ban without end answers as ``retry_after``."""

Level = tuple[Subject, tuple[Meter, ...]]
"""Who is counted, and by which limits."""


class Ban(NamedTuple):
    """A ban as it is kept; ``until_ms`` is 0 for one without end."""

    until_ms: int
    reason: str

    @classmethod
    def read(cls, text: str) -> Ban:
        """Read ``until:reason``."""
        until, _, reason = text.partition(":")
        return cls(int(until), reason)

    def remaining_s(self, now_ms: int) -> float:
        """Return the number of seconds for which it goes on."""
        return max(self.until_ms - now_ms, 1) / 1000 if self.until_ms else ENDLESS_RETRY_S


def unlimited() -> RateLimitResult:
    """Return the answer to a call that nothing limits."""
    return {"allowed": True, "exceeded_types": [], "banned": [], "retry_after": 0.0, "limits": []}


def no_limit(subject: Subject, reset_after: float) -> LimitState:
    """Return the state of a banned subject that has no limit."""
    return {
        "limit_type": subject.limit_type,
        "identifier": subject.identifier,
        "limit": 0,
        "window": 0,
        "remaining": 0,
        "reset_after": reset_after,
    }


def read_result(levels: Sequence[Level], reply: Sequence[Any], cost: int) -> RateLimitResult:
    """Return the result of a check; a type that is banned is among those that refuse."""
    now = reply[1]
    exceeded: dict[str, None] = {}
    banned: list[str] = []
    retry_after = 0.0
    for (subject, _), ban_text in zip(levels, islice(reply, 2, None), strict=False):
        if ban_text:
            banned.append(subject.limit_type)
            exceeded[subject.limit_type] = None
            retry_after = max(retry_after, Ban.read(ban_text).remaining_s(now))
    position = 3 + len(levels)
    for subject, meters in levels:
        for meter in meters:
            wait_ms = reply[position]
            position += 2
            if wait_ms:
                exceeded[subject.limit_type] = None
                never = cost > meter.limit.amount
                retry_after = max(retry_after, meter.limit.period_s if never else wait_ms / 1000)
    return {
        "allowed": bool(reply[0]),
        "exceeded_types": list(exceeded),
        "banned": banned,
        "retry_after": retry_after,
        "limits": read_states(levels, reply),
    }


def read_states(levels: Sequence[Level], reply: Sequence[Any]) -> list[LimitState]:
    """Return how each limit stands after a check."""
    states: list[LimitState] = []
    position = 2 + len(levels)
    for subject, meters in levels:
        for meter in meters:
            level = reply[position]
            position += 2
            states.append(
                {
                    "limit_type": subject.limit_type,
                    "identifier": subject.identifier,
                    "limit": meter.limit.amount,
                    "window": meter.limit.period_s,
                    "remaining": meter.remaining(level),
                    "reset_after": meter.reset_after(level),
                }
            )
    return states
