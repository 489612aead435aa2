"""The role ``websocket``: connections that stay open, and rooms."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NotRequired, TypedDict

from base04_hookspecs.action_discovery import RunAction
from base04_hookspecs.context import Principal
from base04_hookspecs.errors import NotSupported
from base04_hookspecs.manager import Manager
from base04_hookspecs.markers import Since, hookspec
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


class Position(TypedDict):
    """A place among the events of a room: ``offset`` counts them from 1, for as long as ``epoch`` is the same.

    A room gets another epoch when its count was lost, or when not every process has got every event.
    """

    epoch: str
    offset: int


class RoomInfo(TypedDict):
    """Who is in a room: ``users`` are distinct user ids, sorted, and ``devices`` has the sockets of each of them.

    ``connections`` is the sum of ``devices``. It covers all processes where the provider has ``presence``.
    """

    room: str
    users: list[str]
    connections: int
    devices: dict[str, int]


class RoomEvent(TypedDict):
    """One event of a room, as it was sent; ``sender`` is the user whose client emitted it."""

    event: str
    data: Any
    sender: NotRequired[str]
    offset: int


class RoomHistory(TypedDict):
    """The events of a room after some position, oldest first, and the position of the newest (``epoch``, ``offset``).

    ``complete`` tells that none is missing in between.
    """

    epoch: str
    offset: int
    events: list[RoomEvent]
    complete: bool


class SessionInfo(TypedDict):
    """One connection. ``connected_at`` is in seconds since the epoch, ``metadata`` what the server noted about it."""

    sid: str
    user_id: str | None
    rooms: list[str]
    connected_at: float
    client_ip: str | None
    metadata: dict[str, Any]


class WebSocketManager(Manager):
    """Connections, rooms, and events to everyone in a room.

    A room is there as long as somebody is in it. Which rooms are for whom, and how much history they have, is up to the
    provider's settings; ``user_<id>`` is for the user of that id.

    Capabilities: ``presence`` (``get_room_info`` and ``list_rooms`` cover all processes, and clients can hear of users
    who come and go), ``recovery`` (missed events can be had, or it is said that some are gone), ``shared`` (where the
    ``redis`` role is shared, events reach the connections of all processes that share it).
    """

    role: ClassVar[str] = "websocket"
    contract_version: ClassVar[str] = "1.1"

    paths: Annotated[tuple[str, ...], Since("1.1")] = ("/ws",)
    """Where the host serves ``handle``; one that ends in ``/`` stands for all below it, and takes requests too."""

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
        """Send an event to everyone in a room and return how many connections of this process it was queued for.

        With the capability ``shared`` it goes to the connections of other processes too. While the ``redis`` role is
        away it reaches those of this process, and the others learn afterwards that something is missing.

        Raises:
            InvalidInput: ``data`` is not JSON, or a name is empty, too long, or not printable.
        """

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

    async def room_history(self, room: str, since: Position | None = None) -> RoomHistory:
        """Return the events after ``since``, or all that are kept.

        A position of another epoch has none after it that could be told: no events, and not ``complete``.

        Raises:
            NotSupported: the provider lacks ``recovery``.
            ManagerUnavailable: the history cannot be read just now.
        """
        raise NotSupported(f"{type(self).__name__} keeps no history of rooms.")

    @abstractmethod
    async def list_sessions(self, user_id: str | None = None) -> list[SessionInfo]:
        """Return the connections of this process, of one user or all."""

    @abstractmethod
    async def get_session(self, sid: str | None = None) -> SessionInfo | None:
        """Return a connection of this process; without ``sid`` the one being served. None where there is none."""

    @abstractmethod
    async def set_metadata(self, metadata: Mapping[str, Any], sid: str | None = None) -> bool:
        """Note something about a connection, for as long as it lasts; a key with None is forgotten.

        Without ``sid`` it is the connection being served. False where there is no such one. Clients never see it.

        Raises:
            InvalidInput: it is not JSON.
        """

    @abstractmethod
    async def disconnect(self, sid: str, *, code: int = 1000, reason: str = "") -> bool:
        """Close a connection; False where there is no such one."""

    @abstractmethod
    async def register_handler(self, event: str, handler: EventHandler) -> bool:
        """Answer an event that clients send; False where it has a handler."""

    @abstractmethod
    async def drain(self) -> None:
        """Tell all clients to come back elsewhere, each after a delay of its own, and close their connections.

        The host calls it before it stops.
        """


@hookspec
def websocket_providers() -> Iterable[Provider]:
    """Offer providers of the role ``websocket``.

    The host calls each implementation once, when it discovers plugins. None or an empty iterable offers nothing.
    """
