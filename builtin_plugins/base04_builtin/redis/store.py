"""The store of the ``memory`` provider: raw strings with a life, tags, and a bound on memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from heapq import heapify, heappop, heappush
from typing import Final

from base04_hookspecs.errors import InvalidInput, ManagerUnavailable

NEVER: Final = 2**63 - 1
"""The deadline of a key without end, in milliseconds."""

_ENTRY_BYTES: Final = 300
_TAG_BYTES: Final = 200
_SWEEP_AT_ONCE: Final = 8
_INT64: Final = 2**63
_INT64_DIGITS: Final = 20


class _Entry:
    """One value. ``scheduled`` is the time at which the heap of deadlines looks at it next."""

    __slots__ = ("cost", "deadline", "raw", "scheduled", "tags")

    def __init__(self, raw: str) -> None:
        self.raw = raw
        self.deadline = NEVER
        self.scheduled = NEVER
        self.cost = 0
        self.tags: tuple[str, ...] = ()


def steady_clock() -> Callable[[], int]:
    """Return a clock in milliseconds since the epoch that never goes back and ignores changes of the system's."""
    monotonic = time.monotonic_ns
    offset = time.time_ns() - monotonic()
    return lambda: (monotonic() + offset) // 1_000_000


class MemoryStore:
    """Raw strings by key. Every method takes the present time, so that it can stand still during a script.

    Expired keys are dropped when they are touched, and a few of those that are due on every write.
    """

    def __init__(self, max_bytes: int, *, evict: bool) -> None:
        self.used_bytes = 0
        self.evicted = 0
        self._max_bytes = max_bytes
        self._evict = evict
        self._entries: MutableMapping[str, _Entry] = OrderedDict() if evict else {}
        self._touch = self._entries.move_to_end if isinstance(self._entries, OrderedDict) else None
        self._deadlines: list[tuple[int, str]] = []
        self._tagged: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._deadlines.clear()
        self._tagged.clear()
        self.used_bytes = 0

    def get(self, key: str, now: int) -> str | None:
        """Return the raw string at the key."""
        entry = self._entries.get(key)  # what _live does, for the scripts that every request runs
        if entry is None:
            return None
        if entry.deadline <= now:
            self._drop(key, entry)
            return None
        if self._touch is not None:
            self._touch(key)
        return entry.raw

    def exists(self, key: str, now: int) -> bool:
        """Tell whether there is a value at the key."""
        return self._live(key, now) is not None

    def deadline(self, key: str, now: int) -> int | None:
        """Return when the key ends, ``NEVER`` for no end, None where there is no key."""
        entry = self._live(key, now)
        return None if entry is None else entry.deadline

    def put(self, key: str, raw: str, deadline: int, now: int, tags: tuple[str, ...] = ()) -> None:
        """Store a raw string; its life and tags take the place of former ones.

        Raises:
            ManagerUnavailable: there is no room; a former value stays.
        """
        entry = self._entries.get(key)
        if (
            entry is not None
            and entry.scheduled <= deadline
            and not (tags or entry.tags)
            and raw.__sizeof__() == entry.raw.__sizeof__()
            and self._touch is None
        ):
            entry.raw, entry.deadline = raw, deadline
            if self._deadlines and self._deadlines[0][0] <= now:
                self.sweep(now, _SWEEP_AT_ONCE)
            return
        cost = key.__sizeof__() + raw.__sizeof__() + _ENTRY_BYTES + _TAG_BYTES * len(tags)
        growth = cost if entry is None else cost - entry.cost
        if self.used_bytes + growth > self._max_bytes:
            self._make_room(key, cost, now)
            entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(raw)
        elif self._touch is not None:
            self._touch(key)
        self.used_bytes += cost - entry.cost
        entry.raw, entry.cost, entry.deadline = raw, cost, deadline
        if tags or entry.tags:
            self._tag(key, entry, tags)
        if deadline < entry.scheduled:
            self._schedule(key, entry)
        if self._deadlines and self._deadlines[0][0] <= now:
            self.sweep(now, _SWEEP_AT_ONCE)

    def delete(self, key: str, now: int) -> bool:
        """Delete the key and tell whether there was one."""
        entry = self._live(key, now)
        if entry is None:
            return False
        self._drop(key, entry)
        return True

    def expire(self, key: str, deadline: int, now: int) -> bool:
        """Let the key live until ``deadline``; False where there is none."""
        entry = self._live(key, now)
        if entry is None:
            return False
        if deadline <= now:
            self._drop(key, entry)
            return True
        entry.deadline = deadline
        if deadline < entry.scheduled:
            self._schedule(key, entry)
        return True

    def incr(self, key: str, amount: int, deadline: int, now: int) -> int:
        """Add to the integer at the key; ``deadline`` is for a key that this makes."""
        entry = self._live(key, now)
        total = amount if entry is None else _integer(entry.raw, key) + amount
        if not -_INT64 <= total < _INT64:
            raise InvalidInput(f"The sum at {key!r} would leave 64 bits; the value stays as it is.")
        if entry is None:
            self.put(key, str(total), deadline, now)
        else:
            self.put(key, str(total), entry.deadline, now, entry.tags)
        return total

    def tagged(self, tag: str) -> list[str]:
        """Return the keys that were stored with a tag."""
        return list(self._tagged.get(tag, ()))

    def sweep(self, now: int, at_most: int) -> int:
        """Drop keys whose life is over, looking at ``at_most`` of those that are due, and return how many it was."""
        dropped = 0
        deadlines = self._deadlines
        while at_most > 0 and deadlines and deadlines[0][0] <= now:
            at_most -= 1
            scheduled, key = heappop(deadlines)
            entry = self._entries.get(key)
            if entry is None or entry.scheduled != scheduled:
                continue  # deleted, or looked at again earlier than this
            if entry.deadline <= now:
                self._drop(key, entry)
                dropped += 1
            else:
                entry.scheduled = NEVER
                self._schedule(key, entry)
        return dropped

    def _live(self, key: str, now: int) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.deadline <= now:
            self._drop(key, entry)
            return None
        if self._touch is not None:
            self._touch(key)
        return entry

    def _drop(self, key: str, entry: _Entry) -> None:
        del self._entries[key]
        self.used_bytes -= entry.cost
        if entry.tags:
            self._untag(key, entry.tags)

    def _schedule(self, key: str, entry: _Entry) -> None:
        """Look at the key when its life ends; one that lives longer by then is put off, so no write adds a second."""
        if entry.deadline == NEVER:
            return
        entry.scheduled = entry.deadline
        heappush(self._deadlines, (entry.deadline, key))
        if len(self._deadlines) > 2 * len(self._entries) + 1024:
            self._deadlines = [(e.scheduled, k) for k, e in self._entries.items() if e.scheduled != NEVER]
            heapify(self._deadlines)

    def _make_room(self, key: str, cost: int, now: int) -> None:
        self.sweep(now, len(self._deadlines))
        entry = self._entries.get(key)
        growth = cost if entry is None else cost - entry.cost
        if self._evict and cost <= self._max_bytes:
            self._evict_for(key, growth)
        if self.used_bytes + growth > self._max_bytes:
            raise ManagerUnavailable(
                f"There is no room for the key {key!r}: {self.used_bytes} of {self._max_bytes} bytes are in use and it "
                f"needs {growth}. Raise max_bytes, give keys a ttl, or set policy to 'evict'."
            )

    def _evict_for(self, key: str, growth: int) -> None:
        if self._touch is not None and key in self._entries:
            self._touch(key)  # the last to go, and then it fits
        while self.used_bytes + growth > self._max_bytes:
            oldest = next(iter(self._entries))
            self._drop(oldest, self._entries[oldest])
            self.evicted += 1

    def _tag(self, key: str, entry: _Entry, tags: tuple[str, ...]) -> None:
        if entry.tags != tags:
            self._untag(key, entry.tags)
            for tag in tags:
                self._tagged.setdefault(tag, set()).add(key)
            entry.tags = tags

    def _untag(self, key: str, tags: Iterable[str]) -> None:
        for tag in tags:
            keys = self._tagged[tag]
            keys.discard(key)
            if not keys:
                del self._tagged[tag]


def _integer(raw: str, key: str) -> int:
    """Read an integer as strictly as a server does: no spaces, no leading zeros, no plus sign, 64 bits."""
    if len(raw) <= _INT64_DIGITS:
        try:
            value = int(raw)
        except ValueError:
            value = 0
        if str(value) == raw and -_INT64 <= value < _INT64:
            return value
    raise InvalidInput(f"The value at {key!r} is not a 64-bit integer, so that nothing can be added to it.")
