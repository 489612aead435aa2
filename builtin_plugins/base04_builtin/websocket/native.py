"""The provider ``native``: plain WebSocket with JSON text frames."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import structlog

from base04_builtin.websocket import messages
from base04_builtin.websocket.authentication import Authentication
from base04_builtin.websocket.authorization import RoomRules
from base04_builtin.websocket.codes import CloseCode
from base04_builtin.websocket.commands import Commands
from base04_builtin.websocket.connection import Connection, serving
from base04_builtin.websocket.registry import Registry
from base04_builtin.websocket.serving import Serving
from base04_builtin.websocket.settings import NativeSettings
from base04_hookspecs import HealthReport, health_report
from base04_hookspecs.action_discovery import RunAction
from base04_hookspecs.errors import InvalidInput
from base04_hookspecs.jwt import JWTManager
from base04_hookspecs.redis import RedisManager
from base04_hookspecs.websocket import (
    ASGIReceive,
    ASGIScope,
    ASGISend,
    EventHandler,
    RoomAuthorizer,
    RoomInfo,
    SessionInfo,
    WebSocketManager,
)

if TYPE_CHECKING:
    from starlette.applications import Starlette

_log = structlog.get_logger()

_TURN = 500  # connections that are sent to before others get a turn of the event loop
_DRAIN_STEP_S = 0.01
_LEAST_SWEEP_S = 1.0


class NativeWebSocketManager(WebSocketManager):
    """Serves docs/websocket.md to the connections of this process.

    ``redis`` carries nothing here: rooms and events are those of one process, and the provider declares no
    capability. It is named so that it starts before and stops after this manager.
    """

    def __init__(self, settings: NativeSettings, jwt: JWTManager, redis: RedisManager | None) -> None:
        self._settings = settings
        self._redis = redis
        self._registry = Registry()
        self._rules = RoomRules()
        self._authentication = Authentication(jwt, settings.revocation_interval)
        self._commands = Commands(settings, self._authentication, self._rules, self._registry.rooms, self._emit)
        self._serving = Serving(settings, self._registry, self._authentication, self._commands)
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take connections from now on."""
        self._registry.accepting = True
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep(), name="websocket revocation sweep")

    async def stop(self) -> None:
        """Close what is still connected and leave nothing running."""
        self._registry.accepting = False
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
            self._sweeper = None
        await self._commands.stop()
        for connection in self._registry.connections():
            connection.close(CloseCode.SERVICE_RESTART, "the server stops")
        await self._emptied()

    async def health_check(self) -> HealthReport:
        """Report how many connections and rooms there are, and how many clients were closed as too slow."""
        registry = self._registry
        return health_report(
            "healthy" if registry.accepting else "unhealthy",
            "taking connections" if registry.accepting else "not taking connections",
            connections=len(registry),
            errors=registry.failures,
            sessions=len(registry.sessions()),
            rooms=len(registry.rooms),
            slow_readers=registry.slow_readers,
        )

    def initialize(self, app: Starlette, use_builtin_handlers: bool = True) -> None:
        """Add the route of the settings' ``path`` to an application, once."""
        from starlette.routing import WebSocketRoute

        path = self._settings.path
        if any(isinstance(route, WebSocketRoute) and route.path == path for route in app.router.routes):
            return
        endpoint = _Endpoint(self._serving, builtin=use_builtin_handlers)
        app.router.routes.append(WebSocketRoute(path, endpoint, name="websocket"))

    async def handle(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        """Serve one connection to its end, as an ASGI application."""
        await self._serving.serve(scope, receive, send, builtin=True)

    def bind(self, run_action: RunAction) -> None:
        """Take the way in to actions."""
        self._commands.run_action = run_action

    def bind_authorizers(self, authorizers: Iterable[RoomAuthorizer]) -> None:
        """Take the plugins' decisions on rooms, in order."""
        self._rules.bind(tuple(authorizers))

    async def emit_to_room(self, room: str, event: str, data: Any) -> int:
        """Send an event to everyone in a room and return how many connections it was queued for."""
        return await self._emit(room, event, data, None)

    async def join_room(self, room: str, sid: str | None = None) -> bool:
        """Put a connection into a room, whoever it belongs to: the rules are for clients."""
        if not messages.is_name(room):
            raise InvalidInput(f"The room {room!r} cannot be joined: a name has 1 to 200 printable characters.")
        connection = self._connection(sid)
        return connection is not None and self._registry.rooms.join(connection, room)

    async def leave_room(self, room: str, sid: str | None = None) -> bool:
        """Take a connection out of a room."""
        connection = self._connection(sid)
        return connection is not None and self._registry.rooms.leave(connection, room)

    async def get_room_info(self, room: str) -> RoomInfo:
        """Return who of this process is in a room."""
        return self._registry.rooms.info(room)

    async def list_rooms(self) -> list[str]:
        """Return the rooms of this process."""
        return self._registry.rooms.names()

    async def list_sessions(self, user_id: str | None = None) -> list[SessionInfo]:
        """Return the connections of this process that have a user."""
        return self._registry.infos(user_id)

    async def get_session(self, sid: str | None = None) -> SessionInfo | None:
        """Describe a connection, without ``sid`` the one being served."""
        connection = self._connection(sid)
        return connection.info() if connection is not None else None

    async def set_metadata(self, metadata: Mapping[str, Any], sid: str | None = None) -> bool:
        """Note something about a connection."""
        noted = messages.copy_of_object(metadata)
        connection = self._connection(sid)
        if connection is None:
            return False
        connection.note(noted)
        return True

    async def disconnect(self, sid: str, *, code: int = 1000, reason: str = "") -> bool:
        """Close a connection.

        Raises:
            InvalidInput: a server may not send this close code.
        """
        if code not in (1000, 1001, 1003, 1008, 1009, 1011, 1012, 1013) and not 3000 <= code <= 4999:
            raise InvalidInput(f"The close code {code!r} cannot be sent: use 1000, or one from 4000 to 4999.")
        connection = self._registry.find(sid)
        return connection is not None and connection.close(code, reason)

    async def register_handler(self, event: str, handler: EventHandler) -> bool:
        """Answer an event that clients send, in place of passing it on to a room."""
        return self._commands.handlers.setdefault(event, handler) is handler

    async def drain(self) -> None:
        """Take no more connections, let running calls end, and close all connections, spread over some time."""
        self._registry.accepting = False
        await self._commands.calls_done(self._settings.drain_timeout)
        connections = self._registry.connections()
        pause = min(_DRAIN_STEP_S, self._settings.drain_spread / max(1, len(connections)))
        for connection in connections:
            if connection.close(CloseCode.SERVICE_RESTART, "the server restarts: connect again"):
                await asyncio.sleep(pause)
        await self._emptied()

    def _connection(self, sid: str | None) -> Connection | None:
        if sid is not None:
            return self._registry.find(sid)
        current = serving.get()
        return self._registry.find(current.sid) if current is not None else None

    async def _emit(self, room: str, event: str, data: Any, sender: str | None) -> int:
        message = messages.event(room, event, data, sender)
        queued = 0
        for position, member in enumerate(self._registry.rooms.members(room), 1):
            queued += member.send(message)
            if position % _TURN == 0:
                await asyncio.sleep(0)
        # Without a turn of the loop, whoever emits without a pause would fill the queues of clients that read in time.
        await asyncio.sleep(0)
        return queued

    async def _emptied(self) -> None:
        """Wait until all connections have ended, those that do not in time by being cut off."""
        for connection in self._registry.connections():
            connection.close(CloseCode.SERVICE_RESTART, "the server restarts: connect again")
        await self._registry.emptied()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._settings.revocation_interval or _LEAST_SWEEP_S)
            try:
                await self._authentication.sweep(self._registry.sessions())
            except Exception:  # noqa: BLE001 - logged, and the next sweep tries again
                _log.exception("websocket revocation sweep failed")


class _Endpoint:
    """The ASGI application behind the route that ``initialize`` adds."""

    def __init__(self, serving: Serving, *, builtin: bool) -> None:
        self._serving = serving
        self._builtin = builtin

    async def __call__(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        await self._serving.serve(scope, receive, send, builtin=self._builtin)
