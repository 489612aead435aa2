"""One server and the connections to it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from base04_builtin.redis.server.connector import Connector, close_now, shown
from base04_builtin.redis.server.failures import Lost, NotSent, PoolExhausted, is_reply, told
from base04_builtin.redis.server.place import Address

ASKING: Final = b"*1\r\n$6\r\nASKING\r\n"


class Node:
    """Sends requests to one server over a bounded set of connections, each for one exchange at a time.

    A connection goes back to the others only when its reply has been read to the end. After anything else, a
    cancellation included, it is closed, so that nobody ever gets a reply that was meant for someone else. Giving a
    connection back never suspends: a cancellation cannot lose its place in the pool.
    """

    def __init__(
        self, address: Address, connector: Connector, *, size: int, wait_s: float, reply_timeout_s: float
    ) -> None:
        self.address = address
        self.size = size
        self._connector = connector
        self._wait_s = wait_s
        self._reply_timeout_s = reply_timeout_s
        self._places = asyncio.Semaphore(size)
        self._idle: list[AbstractConnection] = []
        self._busy = 0
        self._closed = False

    def __str__(self) -> str:
        return shown(self.address)

    @property
    def busy(self) -> int:
        """How many connections are in use."""
        return self._busy

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return self._busy + len(self._idle)

    async def exchange(self, request: bytes, deadline: float, *, asking: bool = False) -> Any:
        """Send one packed command and return its reply; ``asking`` sends ASKING ahead of it.

        Raises:
            NotSent: there was no connection.
            Lost: the connection broke, or no reply came in time.
            RedisError: the server answered with an error.
        """
        connection = await self._take(deadline)
        in_step = False
        try:
            async with asyncio.timeout_at(self._until(deadline)):
                await connection.send_packed_command(ASKING + request if asking else request, check_health=False)
                if asking:
                    await connection.read_response()
                reply = await connection.read_response()
            in_step = True
            return reply
        except ResponseError:
            in_step = not asking
            raise
        except (OSError, RedisError) as error:
            if is_reply(error):
                raise
            raise Lost(f"{self}: {told(error)}") from error
        finally:
            await self._put_back(connection, in_step)

    async def exchange_many(self, requests: Sequence[bytes], deadline: float) -> list[Any]:
        """Send several packed commands at once and return their replies, errors among them in their places."""
        connection = await self._take(deadline)
        in_step = False
        try:
            async with asyncio.timeout_at(self._until(deadline)):
                await connection.send_packed_command(b"".join(requests), check_health=False)
                replies = [await _reply_or_error(connection) for _ in requests]
            in_step = True
            return replies
        except (OSError, RedisError) as error:
            if is_reply(error):
                raise
            raise Lost(f"{self}: {told(error)}") from error
        finally:
            await self._put_back(connection, in_step)

    async def open(self, deadline: float) -> AbstractConnection:
        """Return a connection of its own, which whoever asked for it closes."""
        return await self._connector.open(self.address, deadline)

    async def drop_idle(self) -> None:
        """Close connections that nobody uses, so that the next calls make new ones."""
        idle, self._idle = self._idle, []
        for connection in idle:
            await close_now(connection)

    async def close(self) -> None:
        """Close all connections; those in use as soon as they are given back."""
        self._closed = True
        await self.drop_idle()

    def _until(self, deadline: float) -> float:
        return min(deadline, asyncio.get_running_loop().time() + self._reply_timeout_s)

    async def _take(self, deadline: float) -> AbstractConnection:
        if self._places.locked():
            await self._wait_for_place(deadline)
        else:
            await self._places.acquire()
        self._busy += 1
        try:
            if self._closed:
                raise NotSent(f"{self}: the connections have been closed.")
            while self._idle:
                connection = self._idle.pop()
                if await _usable(connection):
                    return connection
                await close_now(connection)
            return await self._connector.open(self.address, deadline)
        except BaseException:
            self._busy -= 1
            self._places.release()
            raise

    async def _wait_for_place(self, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(min(deadline, asyncio.get_running_loop().time() + self._wait_s)):
                await self._places.acquire()
        except TimeoutError as error:
            raise PoolExhausted(
                f"{self}: all {self.size} connections are in use and none came free in time: "
                "raise 'pool_size', or call less at once."
            ) from error

    async def _put_back(self, connection: AbstractConnection, in_step: bool) -> None:
        if in_step and not self._closed:
            self._idle.append(connection)
        else:
            await close_now(connection)
        self._busy -= 1
        self._places.release()


async def _usable(connection: AbstractConnection) -> bool:
    """Tell whether an idle connection is open and nothing unexpected has arrived on it; never suspends."""
    writer = connection._writer  # redis-py itself notices the end of the stream, and not a reset
    if writer is None or writer.is_closing():
        return False
    try:
        return not await connection.can_read()
    except (OSError, RedisError):
        return False


async def _reply_or_error(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error
