"""What a process hears of the messages in the file, and what it does about the file from time to time."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog

from base04_hookspecs.errors import ManagerError
from base04_hookspecs.redis import GapCallback, MessageCallback
from base04_lmdb_redis import message_log
from base04_lmdb_redis.bells import Bell, ring
from base04_lmdb_redis.records import digest_of
from base04_lmdb_redis.store import Store
from base04_lmdb_redis.subscription import Subscription
from base04_lmdb_redis.view import View

_TICK_S: Final = 1.0
_MESSAGES_AT_ONCE: Final = 500
_SWEEPS_AT_ONCE: Final = 50

_log = structlog.get_logger()


class Listener:
    """The subscriptions of one manager. A bell wakes it; it looks every second, too.

    A publisher that was killed may have written a message and not rung, and nobody tells when values end or the file
    is taken away: that is what looking is for.
    """

    def __init__(self, store: Store, timeout: float, queue_size: int) -> None:
        self._store = store
        self._timeout = timeout
        self._queue_size = queue_size
        self._bell = Bell(store.folder)
        self._channels: dict[bytes, list[Subscription]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._rung = asyncio.Event()
        self._seen = store.read(message_log.last_number)
        self._openings = store.openings
        self._past_failures = self._past_dropped = 0
        self._troubled = False
        asyncio.get_running_loop().add_reader(self._bell.reader, self._hear)
        self._task = asyncio.create_task(self._attend(), name="lmdb listener")

    def __len__(self) -> int:
        return sum(map(len, self._channels.values()))

    @property
    def failures(self) -> int:
        """How many callbacks have raised."""
        return self._past_failures + sum(each.failures for many in self._channels.values() for each in many)

    @property
    def dropped(self) -> int:
        """How many messages were dropped because a subscriber was too slow."""
        return self._past_dropped + sum(each.dropped for many in self._channels.values() for each in many)

    async def add(self, channel: bytes, name: str, callback: MessageCallback, on_gap: GapCallback | None) -> None:
        """Begin to deliver; a callback that listens to the channel already goes on as it is.

        Raises:
            ManagerUnavailable: the store cannot be used.
        """
        digest = digest_of(channel)
        listening = self._channels.setdefault(digest, [])
        if any(each.callback == callback for each in listening):
            return
        since = self._store.read(message_log.last_number)
        subscription = Subscription(name, callback, on_gap, size=self._queue_size, since=since)
        listening.append(subscription)
        self._tasks.add(subscription.task)
        subscription.task.add_done_callback(self._tasks.discard)
        try:
            await self._note(digest)
        except BaseException:
            await self.remove(channel, callback)
            raise

    async def remove(self, channel: bytes, callback: MessageCallback) -> bool:
        """Deliver no more; False where the callback does not listen."""
        digest = digest_of(channel)
        listening = self._channels.get(digest, [])
        for subscription in [each for each in listening if each.callback == callback]:
            listening.remove(subscription)
            self._past_failures += subscription.failures
            self._past_dropped += subscription.dropped
            subscription.close()
            if not listening:
                del self._channels[digest]
            with contextlib.suppress(ManagerError):  # a count too high costs others a ring, and nothing else
                await self._note(digest)
            return True
        return False

    async def close(self) -> None:
        """End all deliveries, those in progress included, and be no member any more."""
        asyncio.get_running_loop().remove_reader(self._bell.reader)
        tasks = [self._task, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._channels.clear()
        gone = {self._bell.member}
        self._bell.close()
        with contextlib.suppress(ManagerError):
            await self._store.write(lambda view: message_log.forget_members(view, gone), self._timeout)

    async def forget_the_dead(self) -> None:
        """Remove members whose processes are gone."""
        gone = {member for member in self._store.read(message_log.members) if not ring(self._store.folder, member)}
        if gone:
            await self._store.write(lambda view: message_log.forget_members(view, gone), self._timeout)

    def _hear(self) -> None:
        self._bell.hush()
        self._rung.set()

    async def _attend(self) -> None:
        while True:
            ticked = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._rung.wait()
                    ticked = False
            self._rung.clear()
            try:
                if ticked:
                    await self._tend()
                await self._fetch()
                self._troubled = False
            except ManagerError as error:
                if not self._troubled:
                    _log.warning("the LMDB store cannot be read just now", error=str(error))
                self._troubled = True

    async def _fetch(self) -> None:
        """Hand all new messages to those who listen."""
        while True:
            trimmed, messages = self._store.read(self._new_messages)
            if trimmed > self._seen:
                self._tell_all_of_a_gap()
            for message in messages:
                for subscription in self._channels.get(message.channel, ()):
                    subscription.put(message.number, message.text)
            self._seen = max(self._seen, trimmed, messages[-1].number if messages else 0)
            if len(messages) < _MESSAGES_AT_ONCE:
                return
            await asyncio.sleep(0)

    def _new_messages(self, view: View) -> tuple[int, list[message_log.Message]]:
        return message_log.trimmed_number(view), message_log.after(view, self._seen, _MESSAGES_AT_ONCE)

    async def _tend(self) -> None:
        if not self._store.is_in_place():
            await asyncio.to_thread(self._store.open)
        if self._store.openings != self._openings or not self._bell.is_in_place():
            await self._begin_anew()
        for _ in range(_SWEEPS_AT_ONCE):
            if not self._store.read(View.has_ended_values):
                break
            await self._store.write(View.sweep, self._timeout)

    async def _begin_anew(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._bell.reader)
        self._bell.close()
        self._bell = Bell(self._store.folder)
        loop.add_reader(self._bell.reader, self._hear)
        openings = self._store.openings
        self._seen = self._store.read(message_log.last_number)
        for digest in list(self._channels):
            await self._note(digest)
        self._openings = openings
        for many in self._channels.values():
            for subscription in many:
                subscription.restart(self._seen)
        self._tell_all_of_a_gap()
        _log.warning("the LMDB store was opened anew", folder=str(self._store.folder))

    def _tell_all_of_a_gap(self) -> None:
        for many in self._channels.values():
            for subscription in many:
                subscription.put_gap()

    async def _note(self, digest: bytes) -> None:
        member, count = self._bell.member, len(self._channels.get(digest, ()))
        await self._store.write(lambda view: message_log.listen(view, digest, member, count), self._timeout)
