from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2 as httpx
import pytest
import structlog
import uvicorn
from starlette.types import Receive, Scope, Send

from base04.server.host_server import HostServer


class Application:
    """Answers once it is released."""

    def __init__(self) -> None:
        self.begun, self.released = asyncio.Event(), asyncio.Event()
        self.cancelled = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun.set()
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


@contextlib.asynccontextmanager
async def serving(
    app: Application, drain: Callable[[], Awaitable[None]], *, drain_timeout_s: float = 60.0
) -> AsyncIterator[tuple[HostServer, asyncio.Task[None], asyncio.Task[Any]]]:
    """Serve, with one request on its way; gives the server, its task and the request's."""
    config = uvicorn.Config(app, lifespan="off", log_config=None, timeout_graceful_shutdown=60)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = HostServer(config, drain_timeout_s, drain)
        task = asyncio.create_task(server.serve([listener]))
        await server.listening.wait()
        async with httpx.AsyncClient() as client:
            request = asyncio.create_task(client.get(url))
            await app.begun.wait()
            try:
                yield server, task, request
            finally:
                server.force()
                await asyncio.gather(task, request, return_exceptions=True)


async def test_drain_that_raises_does_not_keep_requests_from_finishing() -> None:
    async def drain() -> None:
        raise RuntimeError("the sockets are stuck")

    app = Application()
    with structlog.testing.capture_logs() as logs:
        async with serving(app, drain) as (server, task, request):
            server.should_exit = True
            app.released.set()
            assert (await request).status_code == 200
            await task
    assert [entry["event"] for entry in logs] == ["sockets could not be drained"]
    assert not app.cancelled


async def test_drain_that_hangs_is_ended_in_time() -> None:
    ended = asyncio.Event()

    async def drain() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    app = Application()
    with structlog.testing.capture_logs() as logs:
        async with serving(app, drain, drain_timeout_s=0.01) as (server, task, request):
            server.should_exit = True
            await ended.wait()
            app.released.set()
            assert (await request).status_code == 200
            await task
    assert [entry["event"] for entry in logs] == ["sockets were not drained in time"]


async def test_force_waits_neither_for_the_drain_nor_for_requests() -> None:
    draining = asyncio.Event()

    async def drain() -> None:
        draining.set()
        await asyncio.Event().wait()

    app = Application()
    async with serving(app, drain) as (server, task, _):
        server.should_exit = True
        await draining.wait()
        server.force()
        await task
    assert app.cancelled


async def test_no_connection_is_taken_while_sockets_drain() -> None:
    draining, drained = asyncio.Event(), asyncio.Event()

    async def drain() -> None:
        draining.set()
        await drained.wait()

    app = Application()
    async with serving(app, drain) as (server, task, request):
        address = server.servers[0].sockets[0].getsockname()
        server.should_exit = True
        await draining.wait()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)
        drained.set()
        app.released.set()
        assert (await request).status_code == 200
        await task


async def test_connection_that_waits_to_be_accepted_is_served() -> None:
    async def drain() -> None:
        pass

    app = Application()
    app.released.set()
    config = uvicorn.Config(app, lifespan="off", log_config=None, timeout_graceful_shutdown=60)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_server(("127.0.0.1", 0)) as other:
        server = HostServer(config, 60.0, drain, {2: other})
        task = asyncio.create_task(server.serve([listener]))
        await server.listening.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        clients = [socket.create_connection(each.getsockname()) for each in (listener, other)]
        for client in clients:  # nothing is awaited: the loop has accepted neither
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await server.shutdown([listener])
        for client in clients:
            with client:
                assert client.recv(1000).startswith(b"HTTP/1.1 200")


async def test_connections_of_another_process_are_accepted_while_told() -> None:
    async def drain() -> None:
        pass

    async def ask(address: tuple[str, int]) -> int:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"http://{address[0]}:{address[1]}")).status_code

    with socket.create_server(("127.0.0.1", 0)) as other:
        app = Application()
        app.released.set()
        config = uvicorn.Config(app, lifespan="off", log_config=None, timeout_graceful_shutdown=60)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = HostServer(config, 60.0, drain, {2: other.dup()})
            task = asyncio.create_task(server.serve([listener]))
            await server.listening.wait()
            for _ in range(2):
                waiting = asyncio.create_task(ask(other.getsockname()))
                assert not (await asyncio.wait((waiting,), timeout=0.05))[0]
                await server.accept_beside({2})
                assert await waiting == 200
                await server.accept_beside(set())
            server.should_exit = True
            await task
