"""One connection that listens to channels."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextvars import Context
from typing import Any, Protocol

import structlog
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from base04_builtin.redis.server.connector import close_now
from base04_builtin.redis.server.failures import Lost, told
from base04_builtin.redis.server.node import Node
from base04_builtin.redis.server.packing import pack

log = structlog.get_logger()


class Owner(Protocol):
    """Who is told what a listener hears."""

    def arrived(self, channel: bytes, raw: bytes) -> None:
        """Take a message."""

    def confirmed(self, channel: bytes) -> None:
        """Learn that the server sends the messages of a channel from now on."""

    def refused(self, error: ResponseError, channels: set[bytes]) -> None:
        """Learn that the server has refused one of the channels."""

    def ended(self, listener: Listener, channels: set[bytes], error: Exception) -> None:
        """Learn that the connection is gone, and with it these channels."""

    def removed(self, channel: bytes) -> None:
        """Learn that the server has stopped a channel by itself: its slot has moved."""


class Listener:
    """A connection of its own to one server, and the task that reads from it.

    A connection that has been silent for ``ping_interval_s`` is asked to prove itself, and is given up when it does not
    within ``reply_timeout_s``: a peer that vanished without a word is noticed.
    """

    def __init__(
        self,
        owner: Owner,
        node: Node,
        connection: AbstractConnection,
        *,
        sharded: bool,
        ping_interval_s: float,
        reply_timeout_s: float,
    ) -> None:
        self.node = node
        self.channels: set[bytes] = set()
        self._owner = owner
        self._connection = connection
        self._subscribe, self._unsubscribe = ("SSUBSCRIBE", "SUNSUBSCRIBE") if sharded else ("SUBSCRIBE", "UNSUBSCRIBE")
        self._ping_interval_s = ping_interval_s
        self._reply_timeout_s = reply_timeout_s
        self._awaited: Counter[bytes] = Counter()
        self._leaving: Counter[bytes] = Counter()
        self._pinged = False
        self._heard_at = self._owed_since = asyncio.get_running_loop().time()
        self._task = asyncio.create_task(
            self._listen(),
            name=f"listening to {node}",
            context=Context(),  # it belongs to no request, whichever begins it
        )

    async def subscribe(self, channels: Iterable[bytes]) -> None:
        """Ask for channels; the owner learns of each confirmation."""
        asked = list(channels)
        self._owe()
        self.channels.update(asked)
        self._awaited.update(asked)
        await self._send(b"".join(pack(self._subscribe, channel) for channel in asked))

    async def unsubscribe(self, channels: Iterable[bytes]) -> None:
        """Want channels no more."""
        left = [channel for channel in channels if channel in self.channels]
        self._owe()
        self.channels.difference_update(left)
        self._leaving.update(left)
        await self._send(b"".join(pack(self._unsubscribe, channel) for channel in left))

    async def close(self) -> None:
        """Stop reading and close the connection; the owner is not told."""
        self._task.cancel()
        try:
            await asyncio.gather(self._task, return_exceptions=True)
        finally:
            await close_now(self._connection)

    async def _send(self, request: bytes) -> None:
        if not request:
            return
        if not self._connection.is_connected:  # redis-py would connect anew, and nobody would read from that
            raise Lost(f"{self.node}: the connection is closed.")
        try:
            async with asyncio.timeout(self._reply_timeout_s):
                await self._connection.send_packed_command(request, check_health=False)
        except (OSError, RedisError) as error:
            raise Lost(f"{self.node}: {told(error)}") from error

    async def _listen(self) -> None:
        try:
            while True:
                await self._take(await self._next())
        except Exception as error:
            if not isinstance(error, (OSError, RedisError, Lost)):
                log.exception("listening failed", server=str(self.node))
            await close_now(self._connection)
            channels, self.channels = self.channels, set()
            self._owner.ended(self, channels, error)

    async def _next(self) -> Any:
        """Return what the server sends next; None for silence that is no cause for alarm."""
        try:
            received = await self._connection.read_response(timeout=min(self._reply_timeout_s, self._ping_interval_s))
        except ResponseError as error:
            self._heard()
            self._refuse(error)
            return None
        if received is None:
            await self._doubt()
        else:
            self._heard()
        return received

    def _heard(self) -> None:
        self._pinged = False
        self._heard_at = self._owed_since = asyncio.get_running_loop().time()

    async def _doubt(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._owing():
            if now - self._owed_since >= self._reply_timeout_s:
                raise Lost(f"{self.node}: it owes an answer and keeps silent.")
        elif now - self._heard_at >= self._ping_interval_s:
            self._owe()
            self._pinged = True
            await self._send(pack("PING"))

    def _owe(self) -> None:
        """Remember since when an answer is due; one that is due already stays so."""
        if not self._owing():
            self._owed_since = asyncio.get_running_loop().time()

    def _owing(self) -> bool:
        return self._pinged or self._awaited.total() > 0 or self._leaving.total() > 0

    async def _take(self, received: Any) -> None:
        if not isinstance(received, list) or len(received) < 2:
            return
        kind, channel = received[0], received[1]
        if kind in (b"message", b"smessage"):
            self._owner.arrived(channel, received[2])
        elif kind in (b"subscribe", b"ssubscribe"):
            self._awaited[channel] -= 1
            if self._awaited[channel] <= 0:
                del self._awaited[channel]
                if channel in self.channels:
                    self._owner.confirmed(channel)
        elif kind in (b"unsubscribe", b"sunsubscribe"):
            self._left(channel)

    def _left(self, channel: bytes) -> None:
        if self._leaving[channel] > 0:
            self._leaving[channel] -= 1
            if not self._leaving[channel]:
                del self._leaving[channel]
        elif channel in self.channels:
            self.channels.discard(channel)
            self._owner.removed(channel)

    def _refuse(self, error: ResponseError) -> None:
        """A refusal does not name its channel: all that are awaited are asked for anew."""
        awaited = set(self._awaited)
        self._awaited.clear()
        self.channels -= awaited
        self._owner.refused(error, awaited)
