"""Counting in this process alone, while nothing else can be counted with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from base04_builtin.rate_limiter.check_script import CHECK
from base04_builtin.redis.script_store import MemoryScriptStore
from base04_builtin.redis.store import MemoryStore, steady_clock


class LocalCount:
    """Runs the check script on a store of its own, of bounded size: what was used least recently goes first."""

    def __init__(self, max_bytes: int) -> None:
        self._store = MemoryStore(max_bytes, evict=True)
        self._now = steady_clock()

    def __len__(self) -> int:
        return len(self._store)

    @property
    def used_bytes(self) -> int:
        """How much memory the counts take."""
        return self._store.used_bytes

    def run(self, keys: Sequence[str], plan: str) -> list[Any]:
        """Return the reply to one call."""
        replies: Any = CHECK.python(MemoryScriptStore(self._store, self._now()), keys, (plan,))
        reply: list[Any] = replies[0]
        return reply

    def clear(self) -> None:
        """Forget everything."""
        self._store.clear()
