"""The TCP proxy of the test kit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from base04.testing.proxy import FaultyProxy

WAIT_S = 20.0


class Echo:
    """A server that answers each line with ``echo `` and that line."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        with suppress(ConnectionError):
            while line := await reader.readline():
                self.lines.append(line)
                writer.write(b"echo " + line)
                await writer.drain()
            writer.write(b"bye\n")
        writer.close()
        self.writers.discard(writer)


@asynccontextmanager
async def echo_behind_proxy() -> AsyncIterator[tuple[FaultyProxy, Echo]]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    try:
        async with FaultyProxy(server.sockets[0].getsockname()) as proxy:
            yield proxy, echo
    finally:
        server.close()
        await server.wait_closed()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, text: bytes) -> None:
        self.writer.write(text)

    async def line(self) -> bytes:
        async with asyncio.timeout(WAIT_S):
            return await self.reader.readline()

    async def ask(self, text: bytes) -> bytes:
        self.send(text)
        return await self.line()


@asynccontextmanager
async def client_of(proxy: FaultyProxy) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def test_bytes_pass_both_ways_and_the_end_too() -> None:
    async with echo_behind_proxy() as (proxy, _), client_of(proxy) as client:
        assert await client.ask(b"one\n") == b"echo one\n"
        big = b"x" * 60_000 + b"\n"
        assert await client.ask(big) == b"echo " + big
        assert (proxy.connections, proxy.accepted) == (1, 1)
        client.writer.write_eof()
        assert await client.line() == b"bye\n"
        assert await client.line() == b""


async def test_unix_socket_can_be_the_target(tmp_path: Path) -> None:
    echo, path = Echo(), tmp_path / "s"
    server = await asyncio.start_unix_server(echo.serve, str(path))
    async with FaultyProxy(path) as proxy, client_of(proxy) as client:
        assert await client.ask(b"one\n") == b"echo one\n"
    server.close()
    await server.wait_closed()


async def test_delayed_bytes_arrive_in_order() -> None:
    async with echo_behind_proxy() as (proxy, _), client_of(proxy) as client:
        proxy.delay(0.01)
        assert await client.ask(b"one\n") == b"echo one\n"
        client.send(b"two\n")
        client.send(b"three\n")
        assert [await client.line(), await client.line()] == [b"echo two\n", b"echo three\n"]


async def test_cut_resets_open_connections_and_lets_new_ones_pass() -> None:
    async with echo_behind_proxy() as (proxy, _):
        async with client_of(proxy) as client:
            await client.ask(b"one\n")
            proxy.cut()
            with pytest.raises(ConnectionResetError):
                await client.line()
        async with client_of(proxy) as client:
            assert await client.ask(b"two\n") == b"echo two\n"


async def test_refusing_proxy_takes_its_port_again() -> None:
    async with echo_behind_proxy() as (proxy, _):
        async with client_of(proxy) as client:
            await client.ask(b"one\n")
            await proxy.refuse()
            with pytest.raises(ConnectionResetError):
                await client.line()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(proxy.host, proxy.port)
        await proxy.pass_all()
        async with client_of(proxy) as client:
            assert await client.ask(b"two\n") == b"echo two\n"


async def test_server_that_is_gone_ends_the_connection() -> None:
    async with echo_behind_proxy() as (proxy, _):
        proxy.target = "/nowhere/at/all"
        async with client_of(proxy) as client:
            with suppress(ConnectionResetError):
                assert await client.line() == b""


async def test_swallowed_request_reaches_the_server() -> None:
    async with echo_behind_proxy() as (proxy, echo), client_of(proxy) as client:
        proxy.swallow_replies(after_requests=1)
        assert await client.ask(b"one\n") == b"echo one\n"
        client.send(b"two\n")
        await asyncio.wait_for(proxy.swallowed.wait(), WAIT_S)
        assert echo.lines == [b"one\n", b"two\n"]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.readline(), 0.02)


async def test_swallowing_chosen_requests_a_number_of_times() -> None:
    async with echo_behind_proxy() as (proxy, echo):
        proxy.swallow_replies(matching=lambda request: b"count" in request, times=1, cut=True)
        async with client_of(proxy) as client:
            assert await client.ask(b"look\n") == b"echo look\n"
            client.send(b"count\n")
            with pytest.raises(ConnectionResetError):
                await client.line()
        assert proxy.swallowed.is_set()
        async with client_of(proxy) as client:
            assert await client.ask(b"count\n") == b"echo count\n"
        assert echo.lines.count(b"count\n") == 2


async def test_reply_can_end_in_its_middle() -> None:
    async with echo_behind_proxy() as (proxy, _), client_of(proxy) as client:
        proxy.swallow_replies(after_bytes=6, times=1)
        client.send(b"one\n")
        assert await client.reader.readexactly(6) == b"echo o"
        await asyncio.wait_for(proxy.swallowed.wait(), WAIT_S)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.02)


async def test_half_open_connections_go_on_where_they_were() -> None:
    async with echo_behind_proxy() as (proxy, echo), client_of(proxy) as client:
        await client.ask(b"one\n")
        proxy.half_open()
        client.send(b"two\n")
        async with client_of(proxy) as late:
            late.send(b"late\n")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(late.reader.readline(), 0.02)
            assert echo.lines == [b"one\n"]
            await proxy.pass_all()
            assert await client.line() == b"echo two\n"
            assert await late.line() == b"echo late\n"


async def test_leaving_closes_everything() -> None:
    async with echo_behind_proxy() as (proxy, echo):
        async with client_of(proxy) as client:
            await client.ask(b"one\n")
            proxy.half_open()
            await proxy.__aexit__(None, None, None)
            with pytest.raises(ConnectionResetError):
                await client.line()
        assert proxy.connections == 0
        async with asyncio.timeout(WAIT_S):
            while echo.writers:
                await asyncio.sleep(0.01)
