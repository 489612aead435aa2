"""The role ``websocket``: connections that stay open, and rooms."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

from base04_hookspecs.action_discovery import RunAction
from base04_hookspecs.context import Principal
from base04_hookspecs.manager import Manager
from base04_hookspecs.markers import hookspec
from base04_hookspecs.provider import Provider

if TYPE_CHECKING:
    from starlette.applications import Starlette

ASGIScope = MutableMapping[str, Any]
ASGIReceive = Callable[[], Awaitable[MutableMapping[str, Any]]]
ASGISend = Callable[[MutableMapping[str, Any]], Awaitable[None]]

EventHandler = Callable[[str, Any], Awaitable[Any] | Any]
"""Called with the connection's sid and the event's data; what it returns is the acknowledgement."""

RoomAuthorizer = Callable[[Principal, str, str], Awaitable[bool | None] | bool | None]
"""Called with the principal, the room and ``join`` or ``emit``; None leaves the decision to others."""


class RoomInfo(TypedDict):
    """Who is in a room, in all processes: ``users`` are distinct user ids, ``connections`` counts their sockets."""

    room: str
    users: list[str]
    connections: int


class SessionInfo(TypedDict):
    """One connection. ``connected_at`` is in seconds since the epoch."""

    sid: str
    user_id: str | None
    rooms: list[str]
    connected_at: float


class WebSocketManager(Manager):
    """Connections, rooms, and events to everyone in a room.

    Capabilities: ``presence`` (``get_room_info`` covers all processes), ``recovery`` (missed events can be had),
    ``shared`` (events reach the connections of other processes).
    """

    role: ClassVar[str] = "websocket"

    @abstractmethod
    def initialize(self, app: Starlette, use_builtin_handlers: bool = True) -> None:
        """Serve the WebSocket endpoint from an existing Starlette application too.

        Without ``use_builtin_handlers`` only events with a handler of one's own are answered.
        """

    @abstractmethod
    async def handle(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        """Serve one connection to its end, as an ASGI application."""

    @abstractmethod
    def bind(self, run_action: RunAction) -> None:
        """Take the way in to actions. The host calls it once, after start."""

    @abstractmethod
    def bind_authorizers(self, authorizers: Iterable[RoomAuthorizer]) -> None:
        """Take the plugins' decisions on rooms, in order. The host calls it once, after start."""

    @abstractmethod
    async def emit_to_room(self, room: str, event: str, data: Any) -> int:
        """Send an event to everyone in a room and return how many connections of this process it was queued for."""

    @abstractmethod
    async def join_room(self, room: str, sid: str | None = None) -> bool:
        """Put a connection into a room; without ``sid`` the one being served. False where there is no such one."""

    @abstractmethod
    async def leave_room(self, room: str, sid: str | None = None) -> bool:
        """Take a connection out of a room; False where it was not in it."""

    @abstractmethod
    async def get_room_info(self, room: str) -> RoomInfo:
        """Return who is in a room; an empty one where nobody is."""

    @abstractmethod
    async def list_rooms(self) -> list[str]:
        """Return the rooms that somebody is in, sorted."""

    @abstractmethod
    async def list_sessions(self, user_id: str | None = None) -> list[SessionInfo]:
        """Return the connections of this process, of one user or all."""

    @abstractmethod
    async def disconnect(self, sid: str, *, code: int = 1000, reason: str = "") -> bool:
        """Close a connection; False where there is no such one."""

    @abstractmethod
    async def register_handler(self, event: str, handler: EventHandler) -> bool:
        """Answer an event that clients send; False where it has a handler."""

    @abstractmethod
    async def drain(self) -> None:
        """Tell all clients to come back elsewhere and close their connections. Called before the host stops."""


@hookspec
def websocket_providers() -> Iterable[Provider]:
    """Offer providers of the role ``websocket``.

    The host calls each implementation once, when it discovers plugins. None or an empty iterable offers nothing.
    """
