"""What the tests of the provider ``socketio`` share: a client that speaks its wire protocol, and managers on a server.

The client is written from the protocol (Engine.IO 4, Socket.IO 5), so that it can also say what no library would.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from base04.testing.conformance.websocket_client import Joined, Refused, Told, within
from base04_builtin.websocket.socketio.manager import SocketIOWebSocketManager
from base04_builtin.websocket.socketio.settings import SocketIOSettings
from base04_hookspecs.redis import RedisManager
from base04_hookspecs.websocket import Position
from websocket_kit import TableJWT, serving

PATH = "/socket.io/?EIO=4&transport=websocket"


class SocketIOClient:
    """A client over a WebSocket."""

    def __init__(self, wire: ClientConnection) -> None:
        self.wire = wire
        self.sid = ""
        self.events: deque[list[Any]] = deque()
        self.disconnected = False
        self._numbers = itertools.count(1)

    async def packet(self) -> str:
        """Return the next Socket.IO packet, with everything below it answered."""
        while True:
            frame = await within(self.wire.recv())
            assert isinstance(frame, str)
            if frame == "2":
                await self.wire.send("3")
            elif frame == "1":
                raise ConnectionResetError("The server has closed the transport.")
            elif frame.startswith("4"):
                return frame[1:]

    async def authenticate(self, token: str | None) -> SocketIOClient:
        """Connect to the namespace."""
        assert str(await within(self.wire.recv())).startswith("0")
        await self.wire.send("40" + (json.dumps({"token": token}) if token is not None else ""))
        answer = await self.packet()
        if answer.startswith("4"):
            raise Refused(json.loads(answer[1:])["data"]["code"])
        assert answer.startswith("0"), answer
        self.sid = json.loads(answer[1:])["sid"]
        return self

    async def send(self, event: str, data: Any, number: int | None = None) -> None:
        await self.wire.send(f"42{'' if number is None else number}{json.dumps([event, data])}")

    async def ask(self, event: str, data: Any) -> Any:
        """Send an event and return what the server acknowledges it with."""
        number = next(self._numbers)
        await self.send(event, data, number)
        while not (packet := await self.packet()).startswith(f"3{number}["):
            assert packet.startswith("2["), packet
            self.events.append(json.loads(packet[1:]))
        (answer,) = json.loads(packet[len(f"3{number}") :])
        if "error" in answer:
            raise Refused(answer["error"]["code"])
        return answer["result"]

    async def join(self, room: str, since: Position | None = None, presence: bool = False) -> Joined:
        assert await self.ask("join", {"room": room}) is None
        return {"epoch": None, "offset": None}

    async def leave(self, room: str) -> None:
        await self.ask("leave", {"room": room})

    async def emit(self, room: str | None, event: str, data: Any) -> Any:
        if room is None:
            return await self.ask(event, data)
        return await self.ask("emit", {"room": room, "event": event, "data": data})

    async def call(self, action: str, args: Mapping[str, Any]) -> Any:
        return await self.ask("call", {"action": action, "args": args})

    async def arguments(self) -> list[Any]:
        """Wait for an event and return its name and arguments."""
        if self.events:
            return self.events.popleft()
        packet = await self.packet()
        assert packet.startswith("2["), packet
        arguments: list[Any] = json.loads(packet[1:])
        return arguments

    async def event(self) -> tuple[str, str, Any]:
        name, data, about = await self.arguments()
        return about["room"], name, data

    def position(self, room: str) -> Position:
        raise NotImplementedError("There are no positions.")

    async def told(self, kind: Told) -> Mapping[str, Any]:
        others = []
        while (arguments := await self.arguments())[0] != kind:
            others.append(arguments)
        self.events.extendleft(reversed(others))
        told: dict[str, Any] = arguments[1]
        return told

    async def closed(self) -> int:
        code, _ = await self.ending()
        return code

    async def ending(self) -> tuple[int, bool]:
        """Return the code that the server told, 0 for none, and whether it ended the namespace alone."""
        code = 0
        try:
            while (packet := await self.packet()) != "1":
                if packet.startswith('2["closing"'):
                    code = json.loads(packet[1:])[1]["code"]
        except (ConnectionClosed, ConnectionResetError):
            await self.close()
            return code, False
        await self.close()
        return code, True

    async def close(self) -> None:
        await self.wire.close()


class Site:
    """A manager behind a real server."""

    def __init__(self, manager: SocketIOWebSocketManager, jwt: TableJWT, host: str) -> None:
        self.manager = manager
        self.jwt = jwt
        self.host = host
        self._wires: list[ClientConnection] = []

    async def open(self, path: str = PATH, **options: Any) -> SocketIOClient:
        """Open the transport, without saying who it is."""
        wire = await within(websockets.connect(f"ws://{self.host}{path}", proxy=None, **options))
        self._wires.append(wire)
        return SocketIOClient(wire)

    async def connect(self, user_id: str, permissions: tuple[str, ...] = (), **options: Any) -> SocketIOClient:
        client = await self.open(**options)
        return await client.authenticate(self.jwt.issue(user_id, permissions=list(permissions)))

    async def close(self) -> None:
        for wire in self._wires:
            await wire.close()

    async def nothing_left(self) -> bool:
        return (await self.manager.health_check())["metrics"]["connections"] == 0


@contextlib.asynccontextmanager
async def site(redis: RedisManager | None = None, jwt: TableJWT | None = None, **settings: Any) -> AsyncIterator[Site]:
    """Start a manager, and serve it."""
    jwt = jwt or TableJWT()
    manager = SocketIOWebSocketManager(SocketIOSettings(**settings), jwt, redis)
    await manager.start()
    async with serving(manager.handle) as host:
        place = Site(manager, jwt, host)
        try:
            yield place
        finally:
            await place.close()
            await within(manager.stop())
