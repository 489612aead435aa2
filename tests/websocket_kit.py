"""A native WebSocket manager behind a real server, and clients that speak docs/websocket.md."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from base04.testing.conformance.websocket_client import Joined, Refused, Told, within
from base04_builtin.websocket.native import NativeWebSocketManager
from base04_builtin.websocket.settings import NativeSettings
from base04_hookspecs import HealthReport, health_report
from base04_hookspecs.errors import (
    InvalidToken,
)
from base04_hookspecs.jwt import ClaimsSource, JWTManager, TokenPair
from base04_hookspecs.redis import RedisManager
from base04_hookspecs.websocket import Position


class TableJWT(JWTManager):
    """Tokens that are names in a table."""

    def __init__(self) -> None:
        self.claims: dict[str, dict[str, Any]] = {}
        self.revoked: set[str] = set()
        self.failure: Exception | None = None

    def issue(self, user_id: str, **claims: Any) -> str:
        token = f"{user_id}-{len(self.claims)}"
        self.claims[token] = {"user_id": user_id, "exp": time.time() + 3600, "jti": token, **claims}
        return token

    async def health_check(self) -> HealthReport:
        return health_report()

    async def create_access_token(
        self, user_id: str, additional_claims: Mapping[str, Any] | None = None, *, source: str | None = None
    ) -> str:
        return self.issue(user_id, **(additional_claims or {}))

    async def validate_token(self, token: str) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        claims = self.claims.get(token)
        if claims is None or token in self.revoked or claims["exp"] <= time.time():
            raise InvalidToken("unknown, revoked or expired")
        return dict(claims)

    async def blacklist_token(self, token: str) -> bool:
        self.revoked.add(token)
        return True

    async def is_token_blacklisted(self, token: str) -> bool:
        if self.failure is not None:
            raise self.failure
        return token in self.revoked

    async def create_refresh_token(self, user_id: str, *, source: str | None = None) -> str:
        raise NotImplementedError

    async def register_claims_source(self, name: str, source: ClaimsSource) -> None:
        raise NotImplementedError

    async def refresh_token(self, refresh_token: str) -> TokenPair:
        raise NotImplementedError

    async def revoke_user_tokens(self, user_id: str) -> bool:
        raise NotImplementedError

    async def revoke_source_tokens(self, source: str) -> bool:
        raise NotImplementedError

    async def get_jwks(self) -> dict[str, Any]:
        return {"keys": []}


class NativeClient:
    """Speaks docs/websocket.md."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.sid = ""
        self.user_id = ""
        self._waiting: dict[str, deque[dict[str, Any]]] = defaultdict(deque)
        self._positions: dict[str, Position] = {}
        self._number = 0

    async def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await within(self.socket.recv()))
        return message

    async def greeted(self) -> NativeClient:
        hello = await self.receive()
        assert hello["type"] == "auth_ok", hello
        self.sid, self.user_id = hello["sid"], hello["user_id"]
        return self

    async def send(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def ask(self, **message: Any) -> Any:
        self._number += 1
        await self.send(id=self._number, **message)
        while True:
            answer = await self.receive()
            if answer["type"] == "error":
                raise Refused(answer["error"]["code"])
            if answer["type"] in ("ack", "auth_ok", "pong"):
                assert answer["id"] == self._number
                return answer.get("result")
            self._waiting[answer["type"]].append(answer)

    async def join(self, room: str, since: Position | None = None, presence: bool = False) -> Joined:
        options = {"since": since} if since is not None else {}
        joined: Joined = await self.ask(type="join", room=room, presence=presence, **options)
        if since is None and joined["epoch"] is not None and joined["offset"] is not None:
            self._positions[room] = {"epoch": joined["epoch"], "offset": joined["offset"]}
        return joined

    async def leave(self, room: str) -> None:
        assert await self.ask(type="leave", room=room) is None

    async def emit(self, room: str | None, event: str, data: Any) -> Any:
        return await self.ask(type="emit", room=room, event=event, data=data)

    async def call(self, action: str, args: Mapping[str, Any]) -> Any:
        return await self.ask(type="call", action=action, args=args)

    async def event_message(self) -> dict[str, Any]:
        message = await self._next("event")
        if "epoch" in message:
            self._positions[message["room"]] = {"epoch": message["epoch"], "offset": message["offset"]}
        return message

    async def event(self) -> tuple[str, str, Any]:
        message = await self.event_message()
        return message["room"], message["event"], message["data"]

    def position(self, room: str) -> Position:
        return self._positions[room]

    async def told(self, kind: Told) -> Mapping[str, Any]:
        message = await self._next(kind)
        return {key: value for key, value in message.items() if key != "type"}

    async def _next(self, kind: str) -> dict[str, Any]:
        while not self._waiting[kind]:
            message = await self.receive()
            assert message["type"] in ("event", "presence", "gap", "reconnect"), message
            self._waiting[message["type"]].append(message)
        return self._waiting[kind].popleft()

    async def closed(self) -> int:
        return (await self.ending())[0]

    async def ending(self) -> tuple[int, str | None]:
        """Return the close code and the code of the last error before it."""
        error = None
        try:
            while True:
                message = await self.receive()
                if message["type"] == "error":
                    error = message["error"]["code"]
        except ConnectionClosed:
            assert self.socket.close_code is not None
            return self.socket.close_code, error

    async def close(self) -> None:
        await self.socket.close()


class Site:
    """A manager behind a real server."""

    def __init__(self, manager: NativeWebSocketManager, jwt: TableJWT, host: str) -> None:
        self.manager = manager
        self.jwt = jwt
        self.host = host
        self.url = f"ws://{host}/ws"
        self._sockets: list[ClientConnection] = []

    async def open(self, token: str | None = None, **options: Any) -> NativeClient:
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        connecting = websockets.connect(options.pop("url", self.url), additional_headers=headers, proxy=None, **options)
        self._sockets.append(await within(connecting))
        return NativeClient(self._sockets[-1])

    async def connect(self, user_id: str, permissions: tuple[str, ...] = (), **options: Any) -> NativeClient:
        client = await self.open(self.jwt.issue(user_id, permissions=list(permissions)), **options)
        return await client.greeted()

    async def close(self) -> None:
        for client in self._sockets:
            await client.close()


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """Serve an ASGI application on a free port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        interface="asgi3",
        ws="websockets-sansio",
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=1,
        access_log=False,
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            await asyncio.sleep(0.005)
        host, port = listener.getsockname()
        yield f"{host}:{port}"
    finally:
        server.should_exit = True
        await task
        listener.close()


@asynccontextmanager
async def site(jwt: TableJWT | None = None, redis: RedisManager | None = None, **settings: Any) -> AsyncIterator[Site]:
    jwt = jwt or TableJWT()
    manager = NativeWebSocketManager(NativeSettings(**settings), jwt, redis)
    await manager.start()
    async with serving(manager.handle) as host:
        place = Site(manager, jwt, host)
        try:
            yield place
        finally:
            await place.close()
            await within(manager.stop())


async def eventually(true: Callable[[], Awaitable[bool]]) -> None:
    async def poll() -> None:
        while not await true():
            await asyncio.sleep(0.005)

    await within(poll())


async def raw_client(
    place: Site, token: str, *, receive_buffer: int = 0
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Shake hands by hand, for a client that does what no library does."""
    connection = socket.socket()
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.setblocking(False)
    host, port = place.host.split(":")
    await asyncio.get_running_loop().sock_connect(connection, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=connection, limit=1024)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET /ws HTTP/1.1\r\nHost: {place.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    )
    assert b" 101 " in await within(reader.readline())
    while await within(reader.readline()) != b"\r\n":
        pass
    return reader, writer


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first, length = await within(reader.readexactly(2))
    if length == 126:
        (length,) = struct.unpack("!H", await within(reader.readexactly(2)))
    elif length == 127:
        (length,) = struct.unpack("!Q", await within(reader.readexactly(8)))
    return first & 0x0F, await within(reader.readexactly(length))


def masked(opcode: int, payload: bytes, *, final: bool = True, reserved: int = 0) -> bytes:
    """Return a frame as a client sends it (RFC 6455, section 5.2), its mask being zero."""
    first = (0x80 if final else 0) | reserved | opcode
    if len(payload) < 126:
        return bytes([first, 0x80 | len(payload), 0, 0, 0, 0]) + payload
    return struct.pack("!BBH4x", first, 0x80 | 126, len(payload)) + payload
