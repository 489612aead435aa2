"""What the body of an atomic script sees."""

from __future__ import annotations

from base04_lmdb_redis.records import NEVER
from base04_lmdb_redis.view import View


class LmdbScriptStore:
    """A transaction as strings, as ``ScriptStore`` of the contract has them."""

    __slots__ = ("_view",)

    def __init__(self, view: View) -> None:
        self._view = view

    def get(self, key: str) -> str | None:
        """Return the raw string at the key."""
        record = self._view.find(key.encode())
        return None if record is None else record.value.decode()

    def set(self, key: str, value: str, px: int | None = None) -> None:
        """Store a raw string for ``px`` milliseconds, or without end."""
        if not isinstance(value, str):
            raise TypeError(f"A script stores strings, not {type(value).__name__}: give str(value).")
        if px is not None and px <= 0:
            raise ValueError(f"The life {px!r} cannot be used: give milliseconds above 0, or None for no end.")
        self._view.put(key.encode(), value.encode(), NEVER if px is None else self._view.now + px)

    def delete(self, key: str) -> int:
        """Delete the key and return how many there were."""
        return int(self._view.delete(key.encode()))

    def pttl(self, key: str) -> int:
        """Return the remaining life in milliseconds, -1 for no end, -2 where there is no key."""
        record = self._view.find(key.encode())
        if record is None:
            return -2
        return -1 if record.ends == NEVER else record.ends - self._view.now

    def pexpire(self, key: str, ms: int) -> int:
        """Set the remaining life; 0 or less deletes the key, as on a server."""
        return int(self._view.expire(key.encode(), self._view.now + ms))

    def now_ms(self) -> int:
        """Return the clock of the machine in milliseconds since the epoch."""
        return self._view.now
