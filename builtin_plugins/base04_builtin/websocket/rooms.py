"""Which connections of this process are in which rooms."""

from __future__ import annotations

from collections import Counter

from base04_builtin.websocket.connection import Connection
from base04_hookspecs.websocket import RoomInfo


class Rooms:
    """A room is there as long as somebody is in it."""

    def __init__(self) -> None:
        # A dictionary keeps the order in which connections joined, so that concurrent events reach all in one order.
        self._members: dict[str, dict[Connection, None]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def names(self) -> list[str]:
        """Return all rooms, sorted."""
        return sorted(self._members)

    def members(self, room: str) -> tuple[Connection, ...]:
        """Return the connections in a room as of now."""
        return tuple(self._members.get(room, ()))

    def join(self, connection: Connection, room: str) -> bool:
        """Put a connection into a room; False where it is being closed."""
        if not connection.live:
            return False
        self._members.setdefault(room, {})[connection] = None
        connection.rooms.add(room)
        return True

    def leave(self, connection: Connection, room: str) -> bool:
        """Take a connection out of a room; False where it was not in it."""
        members = self._members.get(room)
        if members is None or connection not in members:
            return False
        del members[connection]
        connection.rooms.discard(room)
        if not members:
            del self._members[room]
        return True

    def leave_all(self, connection: Connection) -> None:
        """Take a connection out of all its rooms."""
        for room in tuple(connection.rooms):
            self.leave(connection, room)

    def info(self, room: str) -> RoomInfo:
        """Return who is in a room."""
        devices = Counter(member.principal.user_id or "" for member in self.members(room))
        return {
            "room": room,
            "users": sorted(devices),
            "connections": devices.total(),
            "devices": dict(sorted(devices.items())),
        }
