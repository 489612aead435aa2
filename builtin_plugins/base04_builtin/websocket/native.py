"""The provider ``native``: plain WebSocket with JSON text frames."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from base04_builtin.websocket import messages
from base04_builtin.websocket.authentication import Authentication
from base04_builtin.websocket.authorization import RoomRules
from base04_builtin.websocket.codes import CloseCode
from base04_builtin.websocket.commands import Commands
from base04_builtin.websocket.connection import Connection, serving
from base04_builtin.websocket.hub import Hub
from base04_builtin.websocket.patrol import Patrol
from base04_builtin.websocket.registry import Registry
from base04_builtin.websocket.serving import Serving
from base04_builtin.websocket.settings import NativeSettings
from base04_hookspecs import HealthReport, HealthStatus, health_report
from base04_hookspecs.action_discovery import RunAction
from base04_hookspecs.errors import InvalidInput
from base04_hookspecs.jwt import JWTManager
from base04_hookspecs.redis import RedisManager
from base04_hookspecs.websocket import (
    ASGIReceive,
    ASGIScope,
    ASGISend,
    EventHandler,
    Position,
    RoomAuthorizer,
    RoomHistory,
    RoomInfo,
    SessionInfo,
    WebSocketManager,
)

if TYPE_CHECKING:
    from starlette.applications import Starlette

_DRAIN_STEP_S = 0.01


class NativeWebSocketManager(WebSocketManager):
    """Serves docs/websocket.md, together with the other processes where the ``redis`` role is shared."""

    def __init__(self, settings: NativeSettings, jwt: JWTManager, redis: RedisManager | None) -> None:
        self._settings = settings
        self._hub = Hub(settings, redis)
        self._registry = Registry(self._hub.rooms)
        self._rules = RoomRules(self._hub.policy_of, dynamic=settings.dynamic_rooms)
        authentication = Authentication(jwt, settings.revocation_interval)
        self._commands = Commands(settings, authentication, self._rules, self._hub)
        self._serving = Serving(settings, self._registry, authentication, self._commands)
        self._patrol = Patrol(jwt, authentication, self._registry, settings.revocation_interval)

    async def start(self) -> None:
        """Find the other processes, and take connections from now on.

        Raises:
            ManagerUnavailable: the ``redis`` role cannot be reached.
        """
        await self._hub.start()
        self._patrol.start()
        self._registry.accepting = True

    async def stop(self) -> None:
        """Close what is still connected and leave nothing running."""
        self._registry.accepting = False
        await self._patrol.stop()
        await self._commands.calls.stop()
        for connection in self._registry.connections():
            connection.close(CloseCode.SERVICE_RESTART, "the server stops")
        await self._emptied()
        await self._hub.stop()

    async def health_check(self) -> HealthReport:
        """Report how many connections and rooms there are, and how many clients were closed as too slow."""
        registry, delivery, neighbours = self._registry, self._hub.delivery, self._hub.neighbours
        await self._hub.sweep()
        status, details = _condition(registry.accepting, delivery.link.up)
        return health_report(
            status,
            details,
            connections=len(registry),
            errors=registry.failures,
            sessions=len(registry.sessions()),
            rooms=len(registry.rooms),
            slow_readers=registry.slow_readers,
            outages=delivery.link.outages,
            gaps=delivery.gaps,
            neighbours=len(neighbours) if neighbours is not None else 0,
            presence_failures=neighbours.failures if neighbours is not None else 0,
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
        self._commands.calls.run_action = run_action

    def bind_authorizers(self, authorizers: Iterable[RoomAuthorizer]) -> None:
        """Take the plugins' decisions on rooms, in order."""
        self._rules.bind(tuple(authorizers))

    async def emit_to_room(self, room: str, event: str, data: Any) -> int:
        """Send an event to everyone in a room and return how many connections of this process it was queued for."""
        reached, _ = await self._hub.delivery.emit(_name("room", room), _name("event", event), data)
        return reached

    async def join_room(self, room: str, sid: str | None = None) -> bool:
        """Put a connection into a room, whoever it belongs to: the rules are for clients."""
        _name("room", room)
        connection = self._connection(sid)
        if connection is None:
            return False
        await self._hub.delivery.join(connection, room)
        return room in connection.rooms

    async def leave_room(self, room: str, sid: str | None = None) -> bool:
        """Take a connection out of a room."""
        connection = self._connection(sid)
        return connection is not None and self._hub.rooms.leave(connection, room)

    async def get_room_info(self, room: str) -> RoomInfo:
        """Return who is in a room, in all processes."""
        return self._hub.presence.info(room)

    async def list_rooms(self) -> list[str]:
        """Return the rooms of all processes."""
        return self._hub.presence.rooms()

    async def room_history(self, room: str, since: Position | None = None) -> RoomHistory:
        """Return the events after ``since``, or all that are kept."""
        page = await self._hub.log.read(_name("room", room), since)
        return {
            "epoch": page.epoch,
            "offset": page.offset,
            "events": [messages.read_event(text, offset) for offset, text in enumerate(page.texts, page.first)],
            "complete": page.complete,
        }

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
        for connection in self._registry.sessions():
            connection.send(messages.reconnect(random.uniform(0, self._settings.reconnect_spread)))  # noqa: S311 - no secret
        await self._commands.calls.done(self._settings.drain_timeout)
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

    async def _emptied(self) -> None:
        """Wait until all connections have ended, those that do not in time by being cut off."""
        for connection in self._registry.connections():
            connection.close(CloseCode.SERVICE_RESTART, "the server restarts: connect again")
        await self._registry.emptied()


class _Endpoint:
    """The ASGI application behind the route that ``initialize`` adds."""

    def __init__(self, serving: Serving, *, builtin: bool) -> None:
        self._serving = serving
        self._builtin = builtin

    async def __call__(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        await self._serving.serve(scope, receive, send, builtin=self._builtin)


def _name(what: str, name: str) -> str:
    if isinstance(name, str) and messages.is_name(name):
        return name
    raise InvalidInput(f"The {what} {name!r} cannot be used: a name has 1 to 200 printable characters.")


def _condition(accepting: bool, in_touch: bool) -> tuple[HealthStatus, str]:
    if not accepting:
        return "unhealthy", "not taking connections"
    if not in_touch:
        return "degraded", "out of touch with the other processes: rooms reach this one alone"
    return "healthy", "taking connections"
