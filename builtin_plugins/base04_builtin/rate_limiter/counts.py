"""Counts that one process holds: GCRA on dictionaries, of bounded size."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

from base04_builtin.rate_limiter.identifiers import Subject, subject_for
from base04_builtin.rate_limiter.meter import Meter
from base04_builtin.rate_limiter.plan import Counted, Rule
from base04_builtin.rate_limiter.settings import LIMIT_TYPES
from base04_builtin.redis.store import steady_clock

_LOOK_AT: Final = 2
"""At how many old tallies the making of a new one looks: so what is over goes faster than it comes."""

_KEPT_MS: Final = 5000
"""How long a tally is kept once it is over: for somebody who keeps coming it is not made anew each time."""

_SECOND_CHANCES: Final = 32


class Tally(Counted):
    """What one subject has consumed.

    ``row`` holds, for each limit of its rule, when its bucket is empty, in units since the counts were made (see
    ``Meter``); ``others`` the same of limits that it has met under another rule.
    """

    __slots__ = ("others", "row", "seen", "violations", "violations_end")

    def __init__(self, subject: Subject, rule: Rule) -> None:
        super().__init__(subject, rule)
        self.row = [0] * len(rule.meters)
        self.others: tuple[tuple[Meter, int], ...] = ()
        self.seen = False
        self.violations = 0
        self.violations_end = 0

    def use(self, rule: Rule, at: int) -> None:
        """Count by another rule from now on; a limit that both have goes on."""
        kept = {meter.suffix: (meter, empty_at) for meter, empty_at in self._consumed(at)}
        self.row = [kept.pop(suffix)[1] if suffix in kept else 0 for suffix in rule.suffixes]
        self.others = tuple(kept.values())
        self.rule = rule

    def is_over(self, at: int, now: int) -> bool:
        """Tell whether nothing that it holds matters any more."""
        return self.violations_end <= now and not any(self._consumed(at))

    def forget(self, at: int) -> bool:
        """Forget what was consumed; False where there was nothing."""
        consumed = any(self._consumed(at))
        self.row = [0] * len(self.row)
        self.others = ()
        return consumed

    def _consumed(self, at: int) -> Iterator[tuple[Meter, int]]:
        """Return the buckets that are not empty."""
        for meter, empty_at in (*zip(self.rule.meters, self.row, strict=True), *self.others):
            if empty_at > at * meter.drain:
                yield meter, empty_at


class Counts:
    """The tallies of all subjects, at most ``size``.

    Whoever comes first makes room by dropping tallies that are over and, where there still is none, the ones that were
    used least recently (an approximation: CLOCK, F. J. Corbató 1968).

    Args:
        size: the bound.
        clock: returns the time in milliseconds since the epoch, and never goes back.

    ``changes`` goes up where a tally that was found may not be the one to use any more: it was dropped, or counts by
    another rule.
    """

    def __init__(self, size: int, clock: Callable[[], int] | None = None) -> None:
        self.size = size
        self.evicted = 0
        self.changes = 0
        self.now_ms = clock or steady_clock()
        self.epoch_ms = self.now_ms()
        self._tallies: dict[str, OrderedDict[str | tuple[str], Tally]] = {
            str(limit_type): OrderedDict() for limit_type in LIMIT_TYPES
        }

    def __len__(self) -> int:
        return sum(map(len, self._tallies.values()))

    def find(self, limit_type: str, identifier: str, rule: Rule) -> Tally:
        """Return the tally of an identifier, a new one if need be, for counting by a rule."""
        tally = self._tallies[limit_type].get(identifier)
        if tally is None:
            tally = self._find(limit_type, identifier, rule)
        else:
            tally.seen = True
        if tally.rule is not rule:
            tally.use(rule, self.now_ms() - self.epoch_ms)
            self.changes += 1
        return tally

    def clear(self) -> None:
        """Forget everything."""
        self.changes += 1
        for tallies in self._tallies.values():
            tallies.clear()

    def _find(self, limit_type: str, identifier: str, rule: Rule) -> Tally:
        """Find the tally under the name that all spellings of an identifier share."""
        subject = subject_for(limit_type, identifier)
        name, tallies = _name(subject), self._tallies[limit_type]
        tally = tallies.get(name)
        if tally is None:
            self._make_room(tallies)
            tally = tallies[name] = Tally(subject, rule)
        else:
            tally.seen = True
        return tally

    def _make_room(self, tallies: OrderedDict[str | tuple[str], Tally]) -> None:
        if len(self) >= self.size:
            self._evict()
            return
        now = self.now_ms() - _KEPT_MS
        at = now - self.epoch_ms
        for _ in range(min(_LOOK_AT, len(tallies))):
            name, tally = next(iter(tallies.items()))
            if tally.is_over(at, now):
                del tallies[name]
                self.changes += 1
            else:
                tallies.move_to_end(name)

    def _evict(self) -> None:
        tallies = self._largest()
        for _ in range(_SECOND_CHANCES):
            name, tally = next(iter(tallies.items()))
            if not tally.seen:
                break
            tally.seen = False
            tallies.move_to_end(name)
        while len(self) >= self.size:  # more than once where the bound was lowered
            self._largest().popitem(last=False)
            self.evicted += 1
            self.changes += 1

    def _largest(self) -> OrderedDict[str | tuple[str], Tally]:
        return max(self._tallies.values(), key=len)


def _name(subject: Subject) -> str | tuple[str]:
    """Return the key of a tally: who it is, or, where that is a long text, its digest as what no text is equal to."""
    return subject.identifier if subject.is_short else (subject.entry,)
