"""States in the ``redis`` role, shared by all processes. The database is the truth; nothing here fails a change.

At the key of a state is ``[version, state]``, ``[version, null]`` for one that was deleted, or a tombstone
``[version]``: that version may be on its way. A key never goes back to an earlier version, so a reader that was slow
cannot put an old state over a tombstone or a newer state. What is behind a tombstone is read from the database.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Sequence
from typing import Any, Final, NamedTuple

import orjson
import structlog

from base04_builtin.state.tables import as_of_now
from base04_hookspecs.errors import ManagerError
from base04_hookspecs.redis import AtomicScript, RedisManager, ScriptStore, key_name
from base04_hookspecs.state import State

log = structlog.get_logger()

TOMBSTONE_S: Final = 60.0
"""How long a tombstone stays where nobody puts a state over it: longer than a commit can take."""

_VERSION: Final = re.compile(r"\[(\d+)(,?)")
_REST_S: Final = 1.0


def _put(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> int:
    found = _VERSION.match(store.get(keys[0]) or "")
    version, offered = int(found[1]) if found else -1, int(args[0])
    if version > offered or (version == offered and found is not None and args[1] == "tombstone" and found[2]):
        return 0
    store.set(keys[0], args[3], int(args[2]))
    return 1


PUT: Final = AtomicScript(
    "state.put",
    """
    local raw = redis.call('GET', KEYS[1])
    if raw then
        local version, comma = string.match(raw, '^%[(%d+)(,?)')
        version = tonumber(version or -1)
        local offered = tonumber(ARGV[1])
        if version > offered or (version == offered and ARGV[2] == 'tombstone' and comma == ',') then return 0 end
    end
    redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[3])
    return 1
    """,
    _put,
)
"""Put the text ARGV[4] of the version ARGV[1] at KEYS[1] for ARGV[3] milliseconds, unless something newer is there.

A ``tombstone`` (ARGV[2]) does not replace the state of its own version either: then that version is taken.
"""


class Cached(NamedTuple):
    """What the cache knows of a state; None for one that was deleted."""

    state: State | None


class StateCache:
    """Keeps states for ``ttl_s`` seconds. A cache that fails is left alone for a second.

    Args:
        redis: where they are kept; shared by all processes that use the same database.
        ttl_s: how long at most.
        timeout_s: how long to wait for an answer.
    """

    def __init__(self, redis: RedisManager, ttl_s: float, timeout_s: float) -> None:
        self.errors = 0
        self._redis = redis
        self._ttl_ms = max(1, round(ttl_s * 1000))
        self._timeout_s = timeout_s
        self._rests_until = 0.0
        self._failing = False

    @property
    def failing(self) -> bool:
        """Whether the last call failed."""
        return self._failing

    async def get(self, state_id: str) -> Cached | None:
        """Return what is known of a state, None for nothing."""
        found = await self._attempt(lambda: self._redis.get(_key(state_id)))
        if not isinstance(found, list) or len(found) != 2:
            return None
        return Cached(None if found[1] is None else as_of_now(found[1]))

    async def announce(self, state_id: str, version: int) -> None:
        """Put a tombstone: that version may be written from now on."""
        await self._put(state_id, version, "tombstone", round(TOMBSTONE_S * 1000), f"[{version}]")

    async def keep(self, state_id: str, version: int, state: State | None) -> None:
        """Put the state of a version, None for one that was deleted."""
        text = orjson.dumps([version, state]).decode()
        await self._put(state_id, version, "state", self._ttl_ms, text)

    async def _put(self, state_id: str, version: int, kind: str, life_ms: int, text: str) -> None:
        await self._attempt(lambda: self._redis.run_script(PUT, [_key(state_id)], [version, kind, life_ms, text]))

    async def _attempt(self, call: Any) -> Any:
        loop = asyncio.get_running_loop()
        if loop.time() < self._rests_until:
            return None
        try:
            result = await _within(self._timeout_s, call())
        except (ManagerError, TimeoutError) as error:
            self.errors += 1
            self._rests_until = loop.time() + _REST_S
            if not self._failing:
                log.warning("states go past the cache, which does not answer", error=repr(error))
            self._failing = True
            return None
        self._failing = False
        return result


async def _within(seconds: float, call: Awaitable[Any]) -> Any:
    async with asyncio.timeout(seconds):
        return await call


def _key(state_id: str) -> str:
    return key_name("state", state_id)
