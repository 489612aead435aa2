"""Keeping subscriptions alive across outages."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterable
from contextvars import Context
from typing import Final

import structlog
from redis.exceptions import AskError, RedisError, ResponseError

from base04_builtin.redis.arguments import name_bytes
from base04_builtin.redis.server.failures import Lost, NotSent, answered, is_passing, told, unavailable
from base04_builtin.redis.server.listener import Listener
from base04_builtin.redis.server.node import Node
from base04_builtin.redis.server.settings import ServerRedisSettings
from base04_builtin.redis.server.topology import Topology
from base04_builtin.redis.subscriptions import Subscriptions
from base04_hookspecs.errors import ConfigurationError, ManagerUnavailable
from base04_hookspecs.redis import GapCallback, MessageCallback

log = structlog.get_logger()

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 2.0


class Bus:
    """The subscriptions of one process, over one connection to each server that has their channels.

    One task, the keeper, sends all requests: it asks for the channels that nobody listens to yet, after an outage
    again and again with growing pauses. When a channel is back, its subscribers are told of the gap ahead of what
    comes next, so that what they read then is no older than what they missed.
    """

    def __init__(self, topology: Topology, settings: ServerRedisSettings) -> None:
        self.subscriptions = Subscriptions(settings.queue_size)
        self.outages = 0
        """How often a connection that listened was lost."""
        self._topology = topology
        self._settings = settings
        self._listeners: dict[Node, Listener] = {}
        self._wanted: set[bytes] = set()
        self._heard: set[bytes] = set()
        self._missed: set[bytes] = set()
        self._waiting: dict[bytes, set[asyncio.Future[None]]] = {}
        self._work = asyncio.Event()
        self._hurry = asyncio.Event()
        self._disturbed = False
        self._failures = 0
        self._last_error: Exception | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def silent(self) -> int:
        """How many channels are wanted and not heard at the moment."""
        return len(self._wanted - self._heard)

    @property
    def connections(self) -> int:
        """How many connections listen."""
        return len(self._listeners)

    async def subscribe(self, channel: str, callback: MessageCallback, on_gap: GapCallback | None) -> None:
        """Deliver the messages of a channel from now on.

        Raises:
            ManagerUnavailable: the server has not confirmed it in time; nothing is delivered.
        """
        name = name_bytes(channel, "channel")
        try:
            await self._until_heard(name, channel)
            self.subscriptions.add(channel, callback, on_gap)
        finally:
            self._forget_if_unwanted(name, channel)

    def unsubscribe(self, channel: str, callback: MessageCallback) -> bool:
        """Deliver no more; False where there was no such subscription."""
        removed = self.subscriptions.remove(channel, callback)
        self._forget_if_unwanted(name_bytes(channel, "channel"), channel)
        return removed

    async def close(self) -> None:
        """End all deliveries and connections."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        listeners, self._listeners = self._listeners, {}
        for listener in listeners.values():
            await listener.close()
        self._answer_waiting(list(self._waiting), ManagerUnavailable("The manager has been stopped."))
        await self.subscriptions.close()

    # What listeners tell

    def arrived(self, channel: bytes, raw: bytes) -> None:
        self.subscriptions.publish(channel.decode(), raw)

    def confirmed(self, channel: bytes) -> None:
        self._failures = 0
        self._last_error = None
        self._heard.add(channel)
        if channel in self._missed:
            self._missed.discard(channel)
            self.subscriptions.put_gap(channel.decode())
            if not self._missed:
                log.info("all channels are listened to again")
        self._answer_waiting([channel], None)

    def refused(self, error: ResponseError, channels: set[bytes]) -> None:
        if isinstance(error, AskError):
            self._topology.redirected(error)
        elif not is_passing(error):
            self._answer_waiting(channels, answered(None, error))
        self._lose(channels, error, at_once=isinstance(error, AskError))

    def ended(self, listener: Listener, channels: set[bytes], error: Exception) -> None:
        if self._listeners.get(listener.node) is listener:
            del self._listeners[listener.node]
        if channels & self._wanted:
            self.outages += 1
            log.warning("connection that listens is lost", server=str(listener.node), reason=told(error))
        self._lose(channels, error)

    def removed(self, channel: bytes) -> None:
        self._lose({channel}, None, at_once=True)

    def _lose(self, channels: set[bytes], error: Exception | None, *, at_once: bool = False) -> None:
        self._missed |= channels & self._heard & self._wanted
        self._heard -= channels
        self._last_error = error or self._last_error
        self._disturbed = self._disturbed or not at_once
        self._work.set()

    # Waiting for the keeper

    async def _until_heard(self, name: bytes, channel: str) -> None:
        """Want a channel and wait for its confirmation; nothing suspends between that and the return."""
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(
                self._keep(),
                name="keeping redis subscriptions",
                context=Context(),  # it belongs to no request, whichever begins it
            )
        self._wanted.add(name)
        try:
            async with asyncio.timeout(self._settings.timeout):
                while name not in self._heard:
                    await self._confirmation(name)
                    self._wanted.add(name)  # whoever waited with us may have left meanwhile
        except TimeoutError as error:
            cause = self._last_error or error
            raise ManagerUnavailable(
                f"The channel {channel!r} cannot be listened to: {unavailable(None, cause)}"
            ) from cause

    async def _confirmation(self, name: bytes) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(name, set()).add(future)
        self._work.set()
        self._hurry.set()
        try:
            await future
        finally:
            futures = self._waiting.get(name, set())
            futures.discard(future)
            if not futures:
                self._waiting.pop(name, None)

    def _answer_waiting(self, channels: Iterable[bytes], error: Exception | None) -> None:
        for channel in channels:
            for future in self._waiting.pop(channel, ()):
                if future.done():
                    continue
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)

    def _forget_if_unwanted(self, name: bytes, channel: str) -> None:
        if not self.subscriptions.listens(channel) and name not in self._waiting:
            self._wanted.discard(name)
            if not self._wanted:
                self._failures = 0
            self._missed.discard(name)
            self._work.set()

    # The keeper

    async def _keep(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                if self._disturbed:
                    self._disturbed = False
                    if self._wanted:
                        await self._recover()
                placed = await self._place_all()
            except Exception:
                log.exception("keeping subscriptions failed and is tried again")
                placed = False
            if not placed:
                self._disturbed = True
                self._work.set()

    async def _recover(self) -> None:
        """Pause, longer each time, though not once somebody wants to listen anew; then look where the servers are."""
        longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(self._failures, 10))
        self._failures += 1
        self._hurry.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest * random.uniform(0.5, 1.0)):  # noqa: S311 - no secret depends on it
                await self._hurry.wait()
        try:
            await self._topology.heal(None, self._deadline())
        except (NotSent, Lost, RedisError, ConfigurationError, TimeoutError) as error:
            self._last_error = error

    async def _place_all(self) -> bool:
        """Ask for what is wanted and not asked for, leave what is not wanted; False where some of it failed."""
        for listener in list(self._listeners.values()):
            await self._leave(listener)
        asked = set[bytes]().union(*(listener.channels for listener in self._listeners.values()))
        places: dict[Node, list[bytes]] = {}
        complete = True
        for channel in self._wanted - asked:
            try:
                places.setdefault(self._topology.node_for(channel), []).append(channel)
            except NotSent as error:
                self._last_error = error
                complete = False
        for node, channels in places.items():
            complete = await self._place(node, channels) and complete
        return complete

    async def _place(self, node: Node, channels: list[bytes]) -> bool:
        try:
            listener = self._listeners.get(node) or await self._open(node)
            await listener.subscribe(channels)
        except (NotSent, Lost) as error:
            self._last_error = error
            return False
        return True

    async def _open(self, node: Node) -> Listener:
        connection = await node.open(self._deadline())
        listener = self._listeners[node] = Listener(
            self,
            node,
            connection,
            sharded=self._topology.sharded,
            ping_interval_s=self._settings.ping_interval,
            reply_timeout_s=self._settings.reply_timeout,
        )
        return listener

    async def _leave(self, listener: Listener) -> None:
        left = listener.channels - self._wanted
        self._heard -= left
        try:
            await listener.unsubscribe(left)
        except Lost:
            return  # the listener notices by itself
        if not listener.channels:
            self._listeners.pop(listener.node, None)
            await listener.close()

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._settings.timeout
