"""What the Python body of an atomic script sees of the memory store."""

from __future__ import annotations

from base04_builtin.redis.store import NEVER, MemoryStore


class MemoryScriptStore:
    """The store at one moment: the clock stands still, and arguments are as strict as a server's."""

    __slots__ = ("_now", "_store")

    def __init__(self, store: MemoryStore, now: int) -> None:
        self._store = store
        self._now = now

    def get(self, key: str) -> str | None:
        """Return the raw string at the key."""
        return self._store.get(key, self._now)

    def set(self, key: str, value: str, px: int | None = None) -> None:
        """Store a raw string for ``px`` milliseconds, or without end."""
        if not isinstance(value, str):
            raise TypeError(f"A script stores strings, not {type(value).__name__}: give str(value).")
        if px is not None and px <= 0:
            raise ValueError(f"The life {px!r} is not usable: give milliseconds above 0, or None for no end.")
        self._store.put(key, value, NEVER if px is None else self._now + px, self._now)

    def delete(self, key: str) -> int:
        """Delete the key and return how many there were."""
        return int(self._store.delete(key, self._now))

    def pttl(self, key: str) -> int:
        """Return the remaining life in milliseconds, -1 for no end, -2 where there is no key."""
        deadline = self._store.deadline(key, self._now)
        if deadline is None:
            return -2
        return -1 if deadline == NEVER else deadline - self._now

    def pexpire(self, key: str, ms: int) -> int:
        """Set the remaining life; 0 or less deletes the key, as on a server."""
        return int(self._store.expire(key, self._now + ms, self._now))

    def now_ms(self) -> int:
        """Return the clock of the store in milliseconds since the epoch."""
        return self._now
