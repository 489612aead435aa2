"""A WebSocket server that says what the test tells it to, for tests of clients."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

PATIENCE_S = 20.0


class Peer:
    """One connection of a client."""

    def __init__(self, socket: ServerConnection) -> None:
        self._socket = socket
        self.done = asyncio.Event()

    @property
    def token(self) -> str:
        """The token that the client brought, in the header or as subprotocol."""
        assert self._socket.request is not None
        headers = self._socket.request.headers
        if "Authorization" in headers:
            return headers["Authorization"].removeprefix("Bearer ")
        return headers["Sec-WebSocket-Protocol"].rpartition("bearer.")[2]

    async def greet(self, sid: str = "s1", user_id: str = "ada") -> Peer:
        await self.send(type="auth_ok", id=None, sid=sid, user_id=user_id)
        return self

    async def send(self, **message: Any) -> None:
        await self._socket.send(json.dumps(message))

    async def receive(self) -> dict[str, Any]:
        """Return the next message of the client, pings left out."""
        async with asyncio.timeout(PATIENCE_S):
            while (message := json.loads(await self._socket.recv())) == {"type": "ping"}:
                await self.send(type="pong")
        assert isinstance(message, dict)
        return message

    async def asked(self, result: Any = None) -> dict[str, Any]:
        """Return the next message of the client and acknowledge it."""
        message = await self.receive()
        number = message.pop("id")
        await self.send(type="ack", id=number, result=result)
        return message

    async def event(self, room: str, offset: int | None, data: Any, epoch: str = "E") -> None:
        position = {} if offset is None else {"epoch": epoch, "offset": offset}
        await self.send(type="event", room=room, event="line", data=data, **position)

    async def close(self, code: int, reason: str = "") -> None:
        await self._socket.close(code, reason)
        self.done.set()

    async def break_off(self) -> None:
        """End the connection without a word."""
        self._socket.transport.abort()
        self.done.set()


class ScriptedServer:
    """Takes connections for the test to serve; refuses those for which it has a status."""

    def __init__(self) -> None:
        self.url = ""
        self.refusals: list[tuple[HTTPStatus, str]] = []
        self._peers: asyncio.Queue[Peer] = asyncio.Queue()

    async def next(self) -> Peer:
        """Wait for the next connection."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._peers.get()

    async def accept(self, socket: ServerConnection) -> None:
        peer = Peer(socket)
        await self._peers.put(peer)
        waiting = asyncio.ensure_future(peer.done.wait())
        closed = asyncio.ensure_future(socket.wait_closed())
        await asyncio.wait((waiting, closed), return_when=asyncio.FIRST_COMPLETED)
        for task in (waiting, closed):
            task.cancel()

    def admit(self, socket: ServerConnection, request: Request) -> Response | None:
        return socket.respond(*self.refusals.pop(0)) if self.refusals else None


@contextlib.asynccontextmanager
async def scripted_server() -> AsyncIterator[ScriptedServer]:
    script = ScriptedServer()
    async with serve(
        script.accept, "127.0.0.1", 0, process_request=script.admit, subprotocols=[Subprotocol("base04.v1")],
        select_subprotocol=lambda socket, offered: Subprotocol("base04.v1") if "base04.v1" in offered else None,
        close_timeout=1,
    ) as server:  # fmt: skip
        host, port = next(iter(server.sockets)).getsockname()
        script.url = f"ws://{host}:{port}/ws"
        yield script


def token_that_ends(in_s: float, name: str = "t") -> str:
    """Return what looks like a JWT; the clients read nothing of it but its end."""
    claims = base64.urlsafe_b64encode(json.dumps({"exp": time.time() + in_s, "jti": name}).encode()).rstrip(b"=")
    return f"e30.{claims.decode()}.c2ln"
