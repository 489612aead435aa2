"""The provider ``lmdb``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import structlog

from base04_hookspecs import HealthReport, health_report
from base04_hookspecs.errors import (
    Base04Error,
    InvalidInput,
    ManagerError,
    ManagerUnavailable,
    NotFound,
    OutcomeUnknown,
)
from base04_hookspecs.redis import AtomicScript, GapCallback, MessageCallback, RedisManager
from base04_lmdb_redis import message_log
from base04_lmdb_redis.arguments import (
    from_json,
    to_amount,
    to_json,
    to_milliseconds,
    to_script_arguments,
    to_tags,
    to_utf8,
)
from base04_lmdb_redis.bells import ring
from base04_lmdb_redis.listener import Listener
from base04_lmdb_redis.records import NEVER, Record, digest_of
from base04_lmdb_redis.script_store import LmdbScriptStore
from base04_lmdb_redis.settings import LmdbRedisSettings
from base04_lmdb_redis.store import Store, acquire, release
from base04_lmdb_redis.view import View

_REPLIES: Final = (int, str, list, type(None))

_log = structlog.get_logger()


class LmdbRedisManager(RedisManager):
    """Values, counters, scripts and messages in a file that all processes of a machine share.

    Reads are done at once: the file is mapped into memory, and a reader waits for nobody. Writes go through one
    thread, which commits what waits together.
    """

    def __init__(self, settings: LmdbRedisSettings) -> None:
        self._settings = settings
        self._store: Store | None = None
        self._listener: Listener | None = None
        self._errors = 0

    async def start(self) -> None:
        """Open the file, and forget processes that were killed."""
        settings = self._settings
        opening = asyncio.ensure_future(
            asyncio.to_thread(acquire, settings.path, settings.size, durable=settings.durable)
        )
        try:
            self._store = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_release_late)
            raise
        self._listener = Listener(self._store, settings.timeout, settings.queue_size)
        await self._listener.forget_the_dead()

    async def stop(self) -> None:
        """Stop delivering, and close the file where nobody else of this process uses it."""
        listener, self._listener = self._listener, None
        store, self._store = self._store, None
        try:
            if listener is not None:
                await listener.close()
        finally:
            if store is not None:
                await asyncio.to_thread(release, store)

    async def ping(self) -> bool:
        """Tell whether the file can be read."""
        try:
            self._opened().read(View.count)
        except Base04Error:
            return False
        return True

    async def health_check(self) -> HealthReport:
        """Go through the thread that writes, and report what is in use."""
        began = time.perf_counter()
        try:
            self._opened().forget_dead_readers()
            keys, used = await self._write(lambda view: (view.count(), view.used_bytes()))
        except ManagerError as error:
            return health_report("unhealthy", str(error), errors=self._errors)
        listener = self._listener
        return health_report(
            "healthy",
            f"{keys} keys, {used} bytes in use of {self._settings.size.human_readable()} at {self._settings.path}",
            connections=1,
            errors=self._errors + (listener.failures if listener else 0),
            response_time=time.perf_counter() - began,
            keys=keys,
            bytes=used,
            subscribers=len(listener) if listener else 0,
            dropped_messages=listener.dropped if listener else 0,
        )

    async def get(self, key: str) -> Any:
        """Return the value at the key."""
        record = self._find(key)
        return None if record is None else from_json(record.value, key)

    async def set(
        self,
        key: str,
        value: Any,
        ttl: float | None = None,
        *,
        only_if_absent: bool = False,
        tags: Iterable[str] = (),
    ) -> bool:
        """Store a value."""
        name, text, life = to_utf8(key), to_json(value), to_milliseconds(ttl)
        digests = [digest_of(to_utf8(tag, "tag")) for tag in to_tags(tags)]

        def work(view: View) -> bool:
            if only_if_absent and view.find(name) is not None:
                return False
            view.put(name, text, _ends(view, life), digests)
            return True

        return bool(await self._write(work))

    async def delete(self, key: str) -> bool:
        """Delete the key."""
        name = to_utf8(key)
        return bool(await self._write(lambda view: view.delete(name)))

    async def exists(self, key: str) -> bool:
        """Tell whether there is a value at the key."""
        return self._find(key) is not None

    async def expire(self, key: str, ttl: float) -> bool:
        """Let the key live for so many more seconds."""
        name, life = to_utf8(key), to_milliseconds(ttl)
        if life is None:
            raise InvalidInput("The life None cannot be used: give seconds above 0.")
        return bool(await self._write(lambda view: view.expire(name, view.now + life)))

    async def ttl(self, key: str) -> float | None:
        """Return the remaining life in seconds."""
        name = to_utf8(key)
        record, now = self._opened().read(lambda view: (view.find(name), view.now))
        if record is None:
            raise NotFound(f"There is no key {key!r}.")
        return None if record.ends == NEVER else (record.ends - now) / 1000

    async def incr(self, key: str, amount: int = 1, *, ttl: float | None = None) -> int:
        """Add to the integer at the key."""
        name, more, life = to_utf8(key), to_amount(amount), to_milliseconds(ttl)
        return int(await self._write(lambda view: view.add(name, more, _ends(view, life))))

    async def delete_by_prefix(self, prefix: str) -> int:
        """Delete all keys with the prefix, in one step."""
        if not prefix:
            raise InvalidInput("An empty prefix would delete every key: give the beginning of those to delete.")
        start = to_utf8(prefix, "prefix")
        return int(await self._write(lambda view: view.delete_by_prefix(start)))

    async def delete_by_tag(self, tag: str) -> int:
        """Delete all keys with the tag, in one step."""
        to_utf8(tag, "tag")
        return int(await self._write(lambda view: view.delete_by_tag(tag)))

    async def run_script(self, script: AtomicScript, keys: Sequence[str], args: Sequence[str | int | float]) -> Any:
        """Run the Python body in a transaction; one that fails has changed nothing."""
        names, texts = list(keys), to_script_arguments(args)
        return await self._write(lambda view: _run(script, view, names, texts))

    async def publish(self, channel: str, message: Any) -> int:
        """Write a message and wake whoever listens, in whichever process."""
        text, digest = to_json(message), digest_of(to_utf8(channel, "channel"))
        kept_ms = round(self._settings.messages_kept * 1000)
        store = self._opened()

        def wake(listeners: dict[bytes, int]) -> tuple[int, set[bytes]]:
            gone = {member for member in listeners if not ring(store.folder, member)}
            return sum(count for member, count in listeners.items() if member not in gone), gone

        reached, gone = await self._write(
            lambda view: message_log.publish(view, digest, text, kept_ms), afterwards=wake
        )
        if gone:
            await self._write(lambda view: message_log.forget_members(view, gone))
        return int(reached)

    async def subscribe(self, channel: str, callback: MessageCallback, *, on_gap: GapCallback | None = None) -> bool:
        """Call back for each message of the channel."""
        if not callable(callback):
            raise InvalidInput(f"The callback {callback!r} cannot be called: give a function of channel and message.")
        self._opened()
        await self._listening().add(to_utf8(channel, "channel"), channel, callback, on_gap)
        return True

    async def unsubscribe(self, channel: str, callback: MessageCallback) -> bool:
        """Stop calling back."""
        return await self._listening().remove(to_utf8(channel, "channel"), callback)

    def _find(self, key: str) -> Record | None:
        name = to_utf8(key)
        return self._opened().read(lambda view: view.find(name))

    async def _write(self, work: Any, afterwards: Any = None) -> Any:
        try:
            return await self._opened().write(work, self._settings.timeout, afterwards)
        except (ManagerUnavailable, OutcomeUnknown):
            self._errors += 1
            raise

    def _opened(self) -> Store:
        if self._store is None:
            raise ManagerUnavailable("The LMDB store is not open: the manager has not started, or it has stopped.")
        return self._store

    def _listening(self) -> Listener:
        if self._listener is None:
            raise ManagerUnavailable("The LMDB store is not open: the manager has not started, or it has stopped.")
        return self._listener


def _ends(view: View, life: int | None) -> int:
    return NEVER if life is None else view.now + life


def _run(script: AtomicScript, view: View, keys: list[str], args: list[str]) -> Any:
    try:
        reply = script.python(LmdbScriptStore(view), keys, args)
    except ManagerUnavailable:
        raise
    except Exception as error:
        if type(error).__module__.startswith("lmdb"):
            raise  # the file has failed, and not the script
        raise ManagerError(f"The script {script.name!r} failed: {type(error).__name__}: {error}") from error
    if not isinstance(reply, _REPLIES) or isinstance(reply, bool):
        raise ManagerError(
            f"The script {script.name!r} returned a {type(reply).__name__}: return an integer, a string, None, or a "
            "list of these."
        )
    return reply


def _release_late(opening: asyncio.Future[Store]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        release(opening.result())
