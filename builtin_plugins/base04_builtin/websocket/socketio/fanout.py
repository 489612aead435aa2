"""Events to the connections of other processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import structlog
from socketio import AsyncManager
from socketio.async_pubsub_manager import AsyncPubSubManager

from base04_hookspecs.errors import Base04Error
from base04_hookspecs.redis import RedisManager

_log = structlog.get_logger()

_WAITING: Final = 100


class RoleFanout(AsyncPubSubManager):
    """python-socketio's manager for several processes, over the ``redis`` role.

    It says on the channel what python-socketio's own ``AsyncRedisManager`` says, so that programs that have nothing of
    Base04 can emit with that one. What this process emits reaches its own connections before anybody else's, and
    whether Redis answers or not.

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
        self._arrived: asyncio.Queue[Any] = asyncio.Queue(_WAITING)
        self._listener: asyncio.Task[None] | None = None

    def initialize(self) -> None:
        """Do what is to be done before the first connection; listening begins with ``listen``."""
        AsyncManager.initialize(self)

    async def listen(self) -> None:
        """Take what other processes say from now on."""
        await self._redis.subscribe(self.channel, self._take, on_gap=self._missed)
        self._listener = asyncio.get_running_loop().create_task(self._thread(), name="socketio fan-out")

    async def close(self) -> None:
        """Stop listening."""
        await self._redis.unsubscribe(self.channel, self._take)
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
            self._listener = None

    async def _take(self, channel: str, message: Any) -> None:
        await self._arrived.put(message)

    async def _missed(self, channel: str) -> None:
        await self._on_gap()

    async def _listen(self) -> AsyncIterator[Any]:
        while True:
            yield await self._arrived.get()

    async def _publish(self, data: Any) -> None:
        try:
            await self._redis.publish(self.channel, data)
        except Base04Error as exc:
            self.unpublished += 1
            _log.warning("other processes are not told of this", method=data.get("method"), error=str(exc))
