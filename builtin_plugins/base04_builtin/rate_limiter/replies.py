"""What the check script answers, read back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from base04_builtin.rate_limiter.identifiers import Subject
from base04_builtin.rate_limiter.plan import SHADOW, Counted
from base04_hookspecs.rate_limiter import LimitState, RateLimitResult

ENDLESS_RETRY_S: Final = 86_400.0
"""What a ban without end answers as ``retry_after``."""


class Ban(NamedTuple):
    """A ban, in milliseconds; ``until_ms`` is 0 for one without end, ``since_ms`` tells it from later ones."""

    until_ms: int
    since_ms: int
    reason: str

    @classmethod
    def read(cls, text: str) -> Ban:
        """Read ``until:since:reason``."""
        until, since, reason = text.removeprefix("+").split(":", 2)
        return cls(int(until), int(since), reason)

    @property
    def text(self) -> str:
        """What ``read`` reads."""
        return f"{self.until_ms}:{self.since_ms}:{self.reason}"

    def holds(self, now_ms: float) -> bool:
        """Tell whether it holds at a time."""
        return not self.until_ms or self.until_ms > now_ms

    def remaining_s(self, now_ms: float) -> float:
        """Return the number of seconds for which it goes on."""
        return max(self.until_ms - now_ms, 1) / 1000 if self.until_ms else ENDLESS_RETRY_S


def unlimited() -> RateLimitResult:
    """Return the answer to a call that nothing limits."""
    return {"allowed": True, "exceeded_types": [], "banned": [], "retry_after": 0.0, "limits": []}


def refused_by(bans: dict[str, Ban], now_ms: float) -> RateLimitResult:
    """Return the answer to a call that bans refuse, by limit type, while nothing is counted."""
    retry_after = max(ban.remaining_s(now_ms) for ban in bans.values())
    return {
        "allowed": False,
        "exceeded_types": list(bans),
        "banned": list(bans),
        "retry_after": retry_after,
        "limits": [],
    }


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


def read_result(levels: Sequence[Counted], reply: Sequence[Any], cost: int) -> RateLimitResult:
    """Return the result of a check; a type that is banned is among those that refuse."""
    states = read_states(levels, reply)
    if reply[0]:
        result: RateLimitResult = {
            "allowed": True,
            "exceeded_types": [],
            "banned": [],
            "retry_after": 0.0,
            "limits": states,
        }
    else:
        result = _refusal(levels, reply, cost, states)
    for level in levels:
        if level.rule.flags & SHADOW:
            return _with_shadow(result, levels, reply)
    return result


def read_states(levels: Sequence[Counted], reply: Sequence[Any]) -> list[LimitState]:
    """Return how each limit stands after a check."""
    states: list[LimitState] = []
    position = 3
    for level in levels:
        subject = level.subject
        for meter in level.rule.meters:
            filled = reply[position]
            position += 2
            states.append(
                {
                    "limit_type": subject.limit_type,
                    "identifier": subject.identifier,
                    "limit": meter.amount,
                    "window": meter.period_s,
                    "remaining": (meter.capacity - filled) // meter.charge,
                    "reset_after": -(-filled // meter.drain) / 1000,
                }
            )
        position += 1
    return states


def read_bans(levels: Sequence[Counted], reply: Sequence[Any]) -> list[str]:
    """Return the text of each level's ban, empty where there is none."""
    texts: list[str] = []
    position = 2
    for level in levels:
        texts.append(reply[position])
        position += 1 + 2 * len(level.rule.meters)
    return texts


def _refusal(levels: Sequence[Counted], reply: Sequence[Any], cost: int, states: list[LimitState]) -> RateLimitResult:
    now = reply[1]
    bans = dict(zip((level.subject.limit_type for level in levels), read_bans(levels, reply), strict=True))
    banned = [limit_type for limit_type, text in bans.items() if text]
    exceeded = dict.fromkeys(banned)
    retry_after = max((Ban.read(bans[limit_type]).remaining_s(now) for limit_type in banned), default=0.0)
    for level, waits in zip(levels, _waits(levels, reply), strict=True):
        if level.rule.flags & SHADOW:
            continue
        for meter, wait_ms in zip(level.rule.meters, waits, strict=True):
            if wait_ms:
                exceeded[level.subject.limit_type] = None
                retry_after = max(retry_after, meter.period_s if cost > meter.amount else wait_ms / 1000)
    return {
        "allowed": False,
        "exceeded_types": list(exceeded),
        "banned": banned,
        "retry_after": retry_after,
        "limits": states,
    }


def _waits(levels: Sequence[Counted], reply: Sequence[Any]) -> list[Sequence[int]]:
    """Return, for each level, how many milliseconds each of its limits asks to wait."""
    waits: list[Sequence[int]] = []
    position = 3
    for level in levels:
        ends = position + 2 * len(level.rule.meters)
        waits.append(reply[position + 1 : ends : 2])
        position = ends + 1
    return waits


def _with_shadow(result: RateLimitResult, levels: Sequence[Counted], reply: Sequence[Any]) -> RateLimitResult:
    exceeded = [
        level.subject.limit_type
        for level, waits in zip(levels, _waits(levels, reply), strict=True)
        if level.rule.flags & SHADOW and any(waits)
    ]
    if exceeded:
        result["shadow_exceeded"] = exceeded
    return result
