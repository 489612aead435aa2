"""What the processes tell one another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

from base04_hookspecs.errors import Base04Error
from base04_hookspecs.redis import RedisManager, key_name

Announce = Callable[[str, str, int, str | None], Awaitable[None]]
"""Called with room, epoch, offset and text of an event that has its place."""

Take = Callable[[str, str, int, str | None], Awaitable[Any]]
Heard = Callable[[str, dict[str, Any]], None]
"""Called with the process that speaks, and what it says of who is where."""

EVENTS: Final = key_name("websocket", "events")
PRESENCE: Final = key_name("websocket", "presence")

_log = structlog.get_logger()


class Bus:
    """Two channels of the ``redis`` role: for events, and for who is where.

    What this process says itself is not heard here.
    """

    def __init__(self, redis: RedisManager, node: str) -> None:
        self._redis = redis
        self._node = node
        self._take: Take | None = None
        self._heard: Heard | None = None

    async def start(
        self,
        take: Take,
        heard: Heard,
        events_missed: Callable[[], Awaitable[None]],
        presence_missed: Callable[[], None],
    ) -> None:
        """Listen from now on."""

        async def on_events_gap(_channel: str) -> None:
            await events_missed()

        async def on_presence_gap(_channel: str) -> None:
            presence_missed()

        self._take, self._heard = take, heard
        await self._redis.subscribe(EVENTS, self._on_event, on_gap=on_events_gap)
        await self._redis.subscribe(PRESENCE, self._on_presence, on_gap=on_presence_gap)

    async def stop(self) -> None:
        """Listen no more."""
        for channel, callback in ((EVENTS, self._on_event), (PRESENCE, self._on_presence)):
            try:
                await self._redis.unsubscribe(channel, callback)
            except Base04Error as error:  # a bus that is away delivers nothing either
                _log.debug("websocket channel could not be left", channel=channel, error=str(error))

    async def announce(self, room: str, epoch: str, offset: int, text: str | None) -> None:
        """Tell the other processes of an event; without a text, that there is one."""
        await self._redis.publish(EVENTS, [self._node, room, epoch, offset, text])

    async def say(self, message: dict[str, Any]) -> None:
        """Tell the other processes something about who is where."""
        await self._redis.publish(PRESENCE, {**message, "node": self._node})

    async def _on_event(self, channel: str, message: Any) -> None:
        match message:
            case [str(node), str(room), str(epoch), int(offset), str() | None as text]:
                if node != self._node and self._take is not None:
                    await self._take(room, epoch, offset, text)
            case _:
                _log.warning("what another process said of an event is not understood", channel=channel)

    async def _on_presence(self, channel: str, message: Any) -> None:
        node = message.get("node") if isinstance(message, dict) else None
        if not isinstance(node, str):
            _log.warning("what another process said of presence is not understood", channel=channel)
        elif node != self._node and self._heard is not None:
            self._heard(node, message)
