"""Checking calls against counts that this process holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from base04_builtin.rate_limiter.counts import Counts, Tally
from base04_builtin.rate_limiter.identifiers import Subject
from base04_builtin.rate_limiter.levels import Levels
from base04_builtin.rate_limiter.plan import SHADOW, WATCHED, AutoBanPlan
from base04_builtin.rate_limiter.replies import Ban, read_result
from base04_builtin.rate_limiter.settings import GcraRateLimiterSettings
from base04_hookspecs.rate_limiter import LimitState, RateLimit, RateLimitResult

_KNOWN: Final = 4096


class LocalCheck:
    """Does at once, in this process, what the check script does where it is kept for several.

    Nothing in here suspends: that makes a check atomic.

    Args:
        settings: the limits, and what else there is to say of them.
        counts: where they are counted.
        bans: those that are known, by entry.
        on_ban: called with whom a check has banned.
        share: the part of each limit that is let through.
    """

    def __init__(
        self,
        settings: GcraRateLimiterSettings,
        counts: Counts,
        bans: Mapping[str, Ban],
        on_ban: Callable[[Subject, Ban], None],
        share: float = 1.0,
    ) -> None:
        self._counts = counts
        self._bans = bans
        self._on_ban = on_ban
        self._levels = Levels(settings, counts.find, share)
        self._known: dict[tuple[Any, ...], tuple[int, Sequence[RateLimit] | None, list[Tally]]] = {}

    def check(
        self,
        limit_types: Sequence[str],
        identifiers: Mapping[str, str] | None,
        limits: Mapping[str, Sequence[RateLimit]] | None,
        cost: int,
    ) -> RateLimitResult:
        """Consume from each limit on the way, which is what most calls come to; give it back if one refuses."""
        tallies = self._of_call(limit_types, identifiers, limits)
        counts = self._counts
        now = counts.now_ms()
        if self._bans and not self._bans.keys().isdisjoint(tally.subject.entry for tally in tallies):
            return self._weigh(tallies, cost, now)
        at = now - counts.epoch_ms
        states: list[LimitState] = []
        for tally in tallies:
            subject, row, number = tally.subject, tally.row, 0
            for charge, drain, capacity, amount, period_s in tally.rule.terms:
                base = at * drain
                level = row[number] - base
                if level < 0:
                    level = 0
                level += charge * cost
                if level > capacity:
                    _give_back(tallies, cost, len(states))
                    return self._weigh(tallies, cost, now)
                row[number] = base + level
                number += 1  # noqa: SIM113 - every request comes by here, and enumerate makes a tuple for each
                states.append(
                    {
                        "limit_type": subject.limit_type,
                        "identifier": subject.identifier,
                        "limit": amount,
                        "window": period_s,
                        "remaining": (capacity - level) // charge,
                        "reset_after": -(-level // drain) / 1000,
                    }
                )
        return {"allowed": True, "exceeded_types": [], "banned": [], "retry_after": 0.0, "limits": states}

    def peek(self, limit_type: str, identifier: str) -> tuple[Tally, list[Any]]:
        """Return the tally of an identifier, and the reply to a call that consumes nothing."""
        tally = self._levels.of_identifier(limit_type, identifier)
        return tally, self._reply([tally], 1, self._counts.now_ms())[0]

    def reset(self, limit_type: str, identifier: str) -> bool:
        """Forget what an identifier has consumed; False where there was nothing."""
        tally = self._levels.of_identifier(limit_type, identifier)
        return tally.forget(self._counts.now_ms() - self._counts.epoch_ms)

    def _of_call(
        self,
        limit_types: Sequence[str],
        identifiers: Mapping[str, str] | None,
        limits: Mapping[str, Sequence[RateLimit]] | None,
    ) -> list[Tally]:
        """Return the tallies of a call; those of earlier calls by the same caller are remembered."""
        if not identifiers or limit_types.__class__ is not tuple or tuple(identifiers) != limit_types:
            return self._levels.of_call(limit_types, identifiers, limits)
        last = None
        if limits:
            last = limits.get(limit_types[-1])
            if last.__class__ is not tuple or len(limits) > 1:
                return self._levels.of_call(limit_types, identifiers, limits)
        key = (limit_types, *identifiers.values())
        known = self._known.get(key)
        if known is not None and known[0] == self._counts.changes and known[1] is last:
            for tally in known[2]:
                tally.seen = True  # as when it is found
            return known[2]
        tallies = self._levels.of_call(limit_types, identifiers, limits)
        if all(identifiers.values()) and all(tally.subject.is_short for tally in tallies):
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[key] = (self._counts.changes, last, tallies)
        return tallies

    def _weigh(self, tallies: Sequence[Tally], cost: int, now: int) -> RateLimitResult:
        """Check all limits, then consume from all that are not to be passed over, or from none."""
        reply, full = self._reply(tallies, cost, now)
        refusing = [number for number in full if not tallies[number].rule.flags & SHADOW]
        if refusing:
            reply[0] = 0
            for number in refusing:
                self._note_violation(tallies[number], reply, _positions(tallies)[number], now)
        elif reply[0]:
            at = now - self._counts.epoch_ms
            for number, position in enumerate(_positions(tallies)):
                if number not in full:
                    _fill(tallies[number], reply, position + 1, cost, at)
        return read_result(tallies, reply, cost)

    def _reply(self, tallies: Sequence[Tally], cost: int, now: int) -> tuple[list[Any], list[int]]:
        """Return what the script would answer if it consumed nothing, and the numbers of the tallies that are full."""
        at = now - self._counts.epoch_ms
        reply: list[Any] = [1, now]
        full: list[int] = []
        for number, tally in enumerate(tallies):
            ban = self._bans.get(tally.subject.entry)
            holds = ban is not None and ban.holds(now)
            reply.append(ban.text if ban is not None and holds else "")
            if holds:
                reply[0] = 0
            for meter, empty_at in zip(tally.rule.meters, tally.row, strict=True):
                level = max(0, empty_at - at * meter.drain)
                wait = max(0, -((meter.capacity - level - meter.charge * cost) // meter.drain))
                reply += (level, wait)
                if wait and full[-1:] != [number]:
                    full.append(number)
        return reply, full

    def _note_violation(self, tally: Tally, reply: list[Any], position: int, now: int) -> None:
        rule = self._levels.auto_ban
        if not rule.violations or not tally.rule.flags & WATCHED or reply[position]:
            return
        ban = _violation(tally, rule, now)
        if ban is not None:
            reply[position] = ban.text
            self._on_ban(tally.subject, ban)


def _violation(tally: Tally, rule: AutoBanPlan, now: int) -> Ban | None:
    """Count a violation and return the ban that it leads to."""
    if not now < tally.violations_end <= now + rule.window_ms:
        tally.violations, tally.violations_end = 0, now + rule.window_ms
    tally.violations += 1
    if tally.violations < rule.violations:
        return None
    tally.violations = tally.violations_end = 0
    return Ban(now + rule.ban_ms, now, rule.reason)


def _give_back(tallies: Sequence[Tally], cost: int, buckets: int) -> None:
    """Take a call out of the first buckets again. One that was empty before is then as good as empty."""
    for tally in tallies:
        for number, meter in enumerate(tally.rule.meters[:buckets]):
            tally.row[number] -= meter.charge * cost
        buckets -= len(tally.rule.meters)
        if buckets <= 0:
            return


def _fill(tally: Tally, reply: list[Any], position: int, cost: int, at: int) -> None:
    for number, meter in enumerate(tally.rule.meters):
        reply[position] += meter.charge * cost
        tally.row[number] = at * meter.drain + reply[position]
        position += 2


def _positions(tallies: Sequence[Tally]) -> list[int]:
    """Return where the ban of each tally is in the reply."""
    positions = [2]
    for tally in tallies:
        positions.append(positions[-1] + 1 + 2 * len(tally.rule.meters))
    return positions[:-1]
