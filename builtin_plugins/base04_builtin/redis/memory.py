"""The provider ``memory``: a store inside the process with the semantics of a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal

from pydantic import Field

from base04_builtin.callbacks import describe
from base04_builtin.redis.arguments import amount_to_add, milliseconds, name_bytes, script_argument, tag_names
from base04_builtin.redis.json_text import decode, encode
from base04_builtin.redis.script_store import MemoryScriptStore
from base04_builtin.redis.store import NEVER, MemoryStore, steady_clock
from base04_builtin.redis.subscriptions import Subscriptions
from base04_hookspecs.errors import InvalidInput, ManagerError, ManagerUnavailable, NotFound
from base04_hookspecs.health import HealthReport, health_report
from base04_hookspecs.redis import AtomicScript, GapCallback, MessageCallback, RedisManager
from base04_hookspecs.settings import ManagerSettings

_SWEEP_CHUNK: Final = 10_000
_DELETE_CHUNK: Final = 10_000
_REPLIES: Final = (int, str, list, type(None))


class MemoryRedisSettings(ManagerSettings):
    """Settings of the provider ``memory``."""

    max_bytes: int = Field(default=256 * 2**20, ge=2**10, description="How much memory the values may take.")
    policy: Literal["refuse", "evict"] = Field(
        default="refuse",
        description="What happens where there is no room: refuse the write, or evict the value "
        "that was used least recently.",
    )
    queue_size: int = Field(
        default=1000, ge=1, description="How many messages may wait for one subscriber before the oldest is dropped."
    )


class MemoryRedisManager(RedisManager):
    """Values, counters, atomic scripts and messages inside one process and one event loop."""

    def __init__(self, settings: MemoryRedisSettings) -> None:
        self._settings = settings
        self._now = steady_clock()
        self._store = MemoryStore(settings.max_bytes, evict=settings.policy == "evict")
        self._subscriptions = Subscriptions(settings.queue_size)
        self._objects: dict[str, object] = {}
        self._running = False
        self._errors = 0

    @classmethod
    def own_to_process(cls, settings: Any) -> str | None:
        return "values, counters and messages, and with them limits, revocations and rooms"

    async def start(self) -> None:
        self._running = True

    async def stop(self) -> None:
        self._running = False
        try:
            await self._subscriptions.close()
        finally:
            self._store.clear()
            self._objects.clear()

    async def ping(self) -> bool:
        return self._running

    async def get(self, key: str) -> Any:
        raw = self._store.get(key, self._now())
        return None if raw is None else decode(raw, key)

    async def set(
        self,
        key: str,
        value: Any,
        ttl: float | None = None,
        *,
        only_if_absent: bool = False,
        tags: Iterable[str] = (),
    ) -> bool:
        raw = encode(value)
        now = self._writing(key)
        deadline = NEVER if ttl is None else _deadline(ttl, now)
        if only_if_absent and self._store.exists(key, now):
            return False
        self._store.put(key, raw, deadline, now, tag_names(tags) if tags else ())
        return True

    async def delete(self, key: str) -> bool:
        return self._store.delete(key, self._now())

    async def exists(self, key: str) -> bool:
        return self._store.exists(key, self._now())

    async def expire(self, key: str, ttl: float) -> bool:
        now = self._now()
        return self._store.expire(key, _deadline(ttl, now), now)

    async def ttl(self, key: str) -> float | None:
        now = self._now()
        deadline = self._store.deadline(key, now)
        if deadline is None:
            raise NotFound(f"There is no key {key!r}.")
        return None if deadline == NEVER else (deadline - now) / 1000

    async def incr(self, key: str, amount: int = 1, *, ttl: float | None = None) -> int:
        now = self._writing(key)
        return self._store.incr(key, amount_to_add(amount), NEVER if ttl is None else _deadline(ttl, now), now)

    async def delete_by_prefix(self, prefix: str) -> int:
        if not prefix:
            raise InvalidInput("An empty prefix would delete every key: give the beginning of those to delete.")
        deleted = 0
        keys = list(self._store)
        for begin in range(0, len(keys), _DELETE_CHUNK):
            now = self._now()
            for key in keys[begin : begin + _DELETE_CHUNK]:
                if key.startswith(prefix) and self._store.delete(key, now):
                    deleted += 1
            await asyncio.sleep(0)
        return deleted

    async def delete_by_tag(self, tag: str) -> int:
        now = self._now()
        return sum(self._store.delete(key, now) for key in self._store.tagged(tag))

    async def run_script(self, script: AtomicScript, keys: Sequence[str], args: Sequence[str | int | float]) -> Any:
        if not self._running:
            self._require_running()
        store = MemoryScriptStore(self._store, self._now())
        texts = [arg if type(arg) is str else script_argument(arg) for arg in args]
        try:
            reply = script.python(store, keys, texts)
        except ManagerUnavailable:
            raise
        except Exception as error:
            self._errors += 1
            raise ManagerError(f"The script {script.name!r} failed: {describe(error)}") from error
        if type(reply) not in _REPLIES:
            self._errors += 1
            raise ManagerError(
                f"The script {script.name!r} returned a {type(reply).__name__}: return an integer, a string, None, "
                "or a list of these, which a server can return too."
            )
        return reply

    def local_object(self, name: str, make: Callable[[], object]) -> object:
        """Return the object of that name, which is forgotten when this stops."""
        self._require_running()
        if name not in self._objects:
            self._objects[name] = make()
        return self._objects[name]

    async def publish(self, channel: str, message: Any) -> int:
        return self._subscriptions.publish(channel, encode(message))

    async def subscribe(self, channel: str, callback: MessageCallback, *, on_gap: GapCallback | None = None) -> bool:
        self._require_running()
        if not callable(callback):
            raise InvalidInput(f"The callback {callback!r} cannot be called: give a function of channel and message.")
        self._subscriptions.add(channel, callback, on_gap)
        return True

    async def unsubscribe(self, channel: str, callback: MessageCallback) -> bool:
        return self._subscriptions.remove(channel, callback)

    async def health_check(self) -> HealthReport:
        """Report what is in use; drops keys that have expired on the way."""
        self._store.sweep(self._now(), _SWEEP_CHUNK)
        failures = self._subscriptions.failures
        return health_report(
            "healthy" if self._running else "unhealthy",
            f"{len(self._store)} keys, {self._store.used_bytes} of {self._settings.max_bytes} bytes in use"
            if self._running
            else "not running",
            errors=self._errors + failures,
            keys=len(self._store),
            bytes=self._store.used_bytes,
            evicted=self._store.evicted,
            subscribers=len(self._subscriptions),
            dropped_messages=self._subscriptions.dropped,
        )

    def _writing(self, key: str) -> int:
        """Return the present time, once it is clear that the key can be written."""
        if not self._running:
            self._require_running()
        if not isinstance(key, str) or not key.isascii():
            name_bytes(key)
        return self._now()

    def _require_running(self) -> None:
        if not self._running:
            raise ManagerUnavailable("The memory store is not running: it has not started, or it has stopped.")


def _deadline(ttl: float, now: int) -> int:
    return now + milliseconds(ttl)
