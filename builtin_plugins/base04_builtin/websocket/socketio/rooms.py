"""Which sessions are in which rooms, as python-socketio knows it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from socketio import AsyncManager

from base04_builtin.websocket.codes import Refusal
from base04_builtin.websocket.messages import is_name
from base04_builtin.websocket.socketio.engine import NAMESPACE, GuardedServer
from base04_builtin.websocket.socketio.packet import RESERVED, check_json
from base04_builtin.websocket.socketio.session import Session
from base04_hookspecs.errors import InvalidInput
from base04_hookspecs.websocket import RoomInfo


class Rooms:
    """The rooms of this process. (python-socketio has a room for each sid too, which is nobody's to use.)"""

    def __init__(self, server: GuardedServer, sessions: dict[str, Session]) -> None:
        self._server = server
        self._sessions = sessions

    def of(self, sid: str) -> set[str]:
        """Return the rooms of a session."""
        return {room for room in self._server.rooms(sid) if room != sid}

    def names(self) -> list[str]:
        """Return all rooms that a session is in, sorted."""
        manager: AsyncManager = self._server.manager
        rooms = manager.rooms.get(NAMESPACE, {})
        sids = rooms.get(None, {})
        return sorted(room for room in rooms if room is not None and room not in sids)

    def members(self, room: str) -> list[Session]:
        """Return the sessions in a room as of now."""
        manager: AsyncManager = self._server.manager
        if manager.is_sid_room(NAMESPACE, room):
            return []
        found = (self._sessions.get(sid) for sid, _ in manager.get_participants(NAMESPACE, room))
        return [session for session in found if session is not None]

    def info(self, room: str) -> RoomInfo:
        """Return who is in a room."""
        devices = Counter(member.principal.user_id or "" for member in self.members(room))
        return {
            "room": room,
            "users": sorted(devices),
            "connections": devices.total(),
            "devices": dict(sorted(devices.items())),
        }

    async def join(self, session: Session, room: str) -> bool:
        """Put a session into a room; False where it is being closed.

        Raises:
            Refusal: the room is the one that python-socketio keeps for a connection.
        """
        if self._server.manager.is_sid_room(NAMESPACE, room):
            raise Refusal("forbidden", f"You may not join the room {room!r}.", room=room)
        if not session.live:
            return False
        await self._server.enter_room(session.sid, room)
        return True

    async def leave(self, session: Session, room: str) -> bool:
        """Take a session out of a room; False where it was not in it."""
        if room not in self.of(session.sid):
            return False
        await self._server.leave_room(session.sid, room)
        return True

    async def emit(self, room: str, event: str, data: Any, sender: str | None) -> int:
        """Send an event to everyone in a room, in all processes.

        Clients get two arguments: the data, and ``{"room": ..., "sender": ...}`` where a client emitted it.

        Raises:
            InvalidInput: the data is not JSON, or a name cannot be used.
        """
        if not is_name(room) or not is_name(event):
            raise InvalidInput(
                f"The event {event!r} cannot be sent to {room!r}: names have 1 to 200 printable characters."
            )
        if event in RESERVED:
            raise InvalidInput(f"The event {event!r} cannot be sent: the clients' libraries use the name themselves.")
        check_json(data)
        meta = {"room": room} if sender is None else {"room": room, "sender": sender}
        queued = len(self.members(room))
        await self._server.emit(event, (data, meta), room=room)
        return queued
