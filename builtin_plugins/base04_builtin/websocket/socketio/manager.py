"""The provider ``socketio``."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from socketio import AsyncManager

from base04_builtin.websocket.authentication import Authentication
from base04_builtin.websocket.authorization import RoomRules
from base04_builtin.websocket.codes import CloseCode, Refusal
from base04_builtin.websocket.messages import copy_of_object, is_name
from base04_builtin.websocket.patrol import Patrol
from base04_builtin.websocket.policies import room_policies
from base04_builtin.websocket.settings import NativeSettings
from base04_builtin.websocket.socketio.commands import Commands
from base04_builtin.websocket.socketio.connections import Connections
from base04_builtin.websocket.socketio.engine import GuardedServer, Reply
from base04_builtin.websocket.socketio.fanout import RoleFanout
from base04_builtin.websocket.socketio.rooms import Rooms
from base04_builtin.websocket.socketio.serving import Serving
from base04_builtin.websocket.socketio.session import Session, serving
from base04_builtin.websocket.socketio.settings import SocketIOSettings
from base04_hookspecs import HealthReport, health_report
from base04_hookspecs.action_discovery import RunAction
from base04_hookspecs.errors import InvalidInput
from base04_hookspecs.jwt import JWTManager
from base04_hookspecs.redis import RedisManager, held_here
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

_DRAIN_STEP_S: Final = 0.01


class SocketIOWebSocketManager(WebSocketManager):
    """Serves docs/socketio.md, on python-socketio.

    Where the ``redis`` role is shared, events reach the connections of other processes through it.
    """

    def __init__(self, settings: SocketIOSettings, jwt: JWTManager, redis: RedisManager | None) -> None:
        self.paths = (settings.path,)
        self._settings = settings
        self._authentication = Authentication(jwt, settings.revocation_interval)
        self._rules = RoomRules(room_policies(NativeSettings()), dynamic=True)  # the kinds that names tell
        self._connections = Connections(settings, self._authentication)
        shared = redis is not None and held_here(redis, "websocket.socketio", object) is None
        self._fanout = RoleFanout(redis, settings.channel, self._missed) if redis is not None and shared else None
        self._server = GuardedServer(
            on_open=self._connections.opened,
            on_end=self._connections.ended,
            on_packet=self._connections.admits,
            on_event=self._take,
            client_manager=self._fanout or AsyncManager(),
            transports=list(settings.transports),
            ping_interval=settings.ping_interval,
            ping_timeout=settings.ping_timeout,
            max_http_buffer_size=settings.max_message_bytes,
            queue_messages=settings.send_queue_messages,
            on_slow=self._connections.too_slow,
            cors_allowed_origins=lambda origin, environ: True,  # looked at before, as for every provider
            cors_credentials=False,
        )
        self._connections.attach(self._server)
        self._rooms = Rooms(self._server, self._connections.by_sid)
        self._commands = Commands(settings, self._authentication, self._rules, self._rooms)
        self._serving = Serving(settings, self._server, self._connections)
        self._patrol = Patrol(jwt, self._authentication, self._connections, settings.revocation_interval)

    async def start(self) -> None:
        """Take connections from now on."""
        if self._fanout is not None:
            await self._fanout.listen()
        self._patrol.start()
        self._serving.accepting = True

    async def stop(self) -> None:
        """Close what is still connected and leave nothing running."""
        self._serving.accepting = False
        await self._patrol.stop()
        await self._commands.calls.stop()
        self._connections.close_all(CloseCode.SERVICE_RESTART, "the server stops")
        await self._connections.emptied()
        await self._server.eio.end_tasks()
        if self._fanout is not None:
            await self._fanout.close()

    async def health_check(self) -> HealthReport:
        """Report how many connections and rooms there are, and how many clients were closed as too slow."""
        accepting = self._serving.accepting
        return health_report(
            "healthy" if accepting else "unhealthy",
            "taking connections" if accepting else "not taking connections",
            connections=len(self._connections),
            errors=self._serving.failures,
            sessions=len(self._connections.by_sid),
            rooms=len(self._rooms.names()),
            slow_readers=self._connections.slow_readers,
            unpublished=self._fanout.unpublished if self._fanout is not None else 0,
        )

    def initialize(self, app: Starlette, use_builtin_handlers: bool = True) -> None:
        """Add the route of the settings' ``path`` to an application, once."""
        from starlette.routing import Mount

        path = self._settings.path.rstrip("/")
        if any(isinstance(route, Mount) and route.path == path for route in app.router.routes):
            return
        endpoint = _Endpoint(self._serving, builtin=use_builtin_handlers)
        app.router.routes.append(Mount(path, endpoint, name="socketio"))

    async def handle(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        """Serve one connection to its end, or one request of a connection that polls, as an ASGI application."""
        await self._serving.serve(scope, receive, send, builtin=True)

    def bind(self, run_action: RunAction) -> None:
        """Take the way in to actions."""
        self._commands.calls.run_action = run_action

    def bind_authorizers(self, authorizers: Iterable[RoomAuthorizer]) -> None:
        """Take the plugins' decisions on rooms, in order."""
        self._rules.bind(tuple(authorizers))

    async def emit_to_room(self, room: str, event: str, data: Any) -> int:
        """Send an event to everyone in a room and return how many connections of this process it was queued for."""
        return await self._rooms.emit(room, event, data, None)

    async def join_room(self, room: str, sid: str | None = None) -> bool:
        """Put a connection into a room, whoever it belongs to: the rules are for clients."""
        if not is_name(room):
            raise InvalidInput(f"The room {room!r} cannot be joined: a name has 1 to 200 printable characters.")
        session = self._session(sid)
        try:
            return session is not None and await self._rooms.join(session, room)
        except Refusal as exc:
            raise InvalidInput(f"The room {room!r} cannot be joined: it is the name of a connection.") from exc

    async def leave_room(self, room: str, sid: str | None = None) -> bool:
        """Take a connection out of a room."""
        session = self._session(sid)
        return session is not None and await self._rooms.leave(session, room)

    async def get_room_info(self, room: str) -> RoomInfo:
        """Return who of this process is in a room."""
        return self._rooms.info(room)

    async def list_rooms(self) -> list[str]:
        """Return the rooms of this process."""
        return self._rooms.names()

    async def list_sessions(self, user_id: str | None = None) -> list[SessionInfo]:
        """Return the connections of this process that have a user."""
        sessions = self._connections.sessions()
        return [self._info(one) for one in sessions if user_id is None or one.principal.user_id == user_id]

    async def get_session(self, sid: str | None = None) -> SessionInfo | None:
        """Describe a connection, without ``sid`` the one being served."""
        session = self._session(sid)
        return self._info(session) if session is not None else None

    async def set_metadata(self, metadata: Mapping[str, Any], sid: str | None = None) -> bool:
        """Note something about a connection."""
        noted = copy_of_object(metadata)
        session = self._session(sid)
        if session is None:
            return False
        session.note(noted)
        return True

    async def disconnect(self, sid: str, *, code: int = 1000, reason: str = "") -> bool:
        """Close a connection; the client is told the code and the reason by the event ``closing``."""
        session = self._session(sid)
        return session is not None and session.close(code, reason)

    async def register_handler(self, event: str, handler: EventHandler) -> bool:
        """Answer an event that clients send."""
        return self._commands.handlers.setdefault(event, handler) is handler

    async def drain(self) -> None:
        """Take no more connections, let running calls end, and close all connections, spread over some time."""
        self._serving.accepting = False
        for session in self._connections.sessions():
            after = random.uniform(0, self._settings.reconnect_spread)  # noqa: S311 - no secret
            await self._server.emit("reconnect", {"after": after}, to=session.sid, ignore_queue=True)
        await self._commands.calls.done(self._settings.drain_timeout)
        sessions = self._connections.sessions()
        pause = min(_DRAIN_STEP_S, self._settings.drain_spread / max(1, len(sessions)))
        for session in sessions:
            if session.close(CloseCode.SERVICE_RESTART, "the server restarts: connect again"):
                await asyncio.sleep(pause)
        self._connections.close_all(CloseCode.SERVICE_RESTART, "the server restarts: connect again")
        await self._connections.emptied()

    async def _take(self, sid: str, event: str, data: Any, reply: Reply) -> None:
        session = self._connections.by_sid.get(sid)
        if session is not None and session.live:
            await self._commands.serve(session, event, data, reply)

    def _session(self, sid: str | None) -> Session | None:
        current = serving.get()
        session = self._connections.by_sid.get(sid if sid is not None else current.sid if current else "")
        return session if session is not None and session.live else None

    def _info(self, session: Session) -> SessionInfo:
        return {
            "sid": session.sid,
            "user_id": session.principal.user_id,
            "rooms": sorted(self._rooms.of(session.sid)),
            "connected_at": session.connected_at,
            "client_ip": session.client_ip,
            "metadata": copy_of_object(session.metadata),
        }

    async def _missed(self) -> None:
        """Tell all clients of this process that events of other processes may have been missed."""
        await self._server.emit("gap", {}, ignore_queue=True)


class _Endpoint:
    """The ASGI application behind the route that ``initialize`` adds."""

    def __init__(self, serving: Serving, *, builtin: bool) -> None:
        self._serving = serving
        self._builtin = builtin

    async def __call__(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        await self._serving.serve(scope, receive, send, builtin=self._builtin)
