"""Events to the connections of other processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import structlog
from socketio import AsyncManager
from socketio.async_pubsub_manager import AsyncPubSubManager

from base04_hookspecs.errors import Base04Error
from base04_hookspecs.redis import RedisManager

_log = structlog.get_logger()

_ARRIVED: Final = 100
_UNTOLD: Final = 1000
_LAST_WORDS_S: Final = 1.0


class RoleFanout(AsyncPubSubManager):
    """python-socketio's manager for several processes, over the ``redis`` role.

    It says on the channel what python-socketio's own ``AsyncRedisManager`` says, so that programs that have nothing of
    Base04 can emit with that one. What this process emits reaches its own connections at once, whether Redis answers
    or not; to the others it is told in order, by a task of its own, so that nobody waits for a Redis that is silent.

    Args:
        redis: the role that carries the messages.
        channel: the name that all processes use.
        on_gap: called when messages of other processes may have been missed.
    """

    name = "base04"

    def __init__(self, redis: RedisManager, channel: str, on_gap: Callable[[], Awaitable[None]]) -> None:
        super().__init__(channel=channel)
        self.unpublished = 0
        self._redis = redis
        self._on_gap = on_gap
        self._arrived: asyncio.Queue[Any] = asyncio.Queue(_ARRIVED)
        self._untold: asyncio.Queue[Any] = asyncio.Queue(_UNTOLD)
        self._tasks: list[asyncio.Task[None]] = []

    def initialize(self) -> None:
        """Do what is to be done before the first connection; listening begins with ``listen``."""
        AsyncManager.initialize(self)

    async def listen(self) -> None:
        """Take what other processes say from now on."""
        await self._redis.subscribe(self.channel, self._take, on_gap=self._missed)
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._thread(), name="socketio listener"),
            loop.create_task(self._tell(), name="socketio teller"),
        ]

    async def close(self) -> None:
        """Tell what is still to be told, as far as that goes quickly, and stop listening."""
        await self._redis.unsubscribe(self.channel, self._take)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._untold.join()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, channel: str, message: Any) -> None:
        await self._arrived.put(message)

    async def _missed(self, channel: str) -> None:
        await self._on_gap()

    async def _listen(self) -> AsyncIterator[Any]:
        while True:
            yield await self._arrived.get()

    async def _publish(self, data: Any) -> None:
        try:
            self._untold.put_nowait(data)
        except asyncio.QueueFull:
            self.unpublished += 1

    async def _tell(self) -> None:
        while True:
            data = await self._untold.get()
            try:
                await self._redis.publish(self.channel, data)
            except Base04Error as exc:
                self.unpublished += 1
                _log.warning("other processes are not told of this", method=data.get("method"), error=str(exc))
            finally:
                self._untold.task_done()
