"""Which connections of this process are in which rooms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from base04_builtin.websocket.bucket import TokenBucket
from base04_builtin.websocket.connection import Connection
from base04_builtin.websocket.policies import PolicyOf, RoomPolicy

Moved = Callable[[str, str, int], None]
"""Called with room, user id, and how many connections more the user has in it (1 or -1)."""


class Room:
    """The members of a room, and how far they have got in its events.

    Whoever sends events holds ``lock``. ``epoch`` is None while it is not known how far the members have got.
    """

    __slots__ = ("bucket", "epoch", "lock", "members", "name", "offset", "watchers")

    def __init__(self, name: str, policy: RoomPolicy) -> None:
        self.name = name
        # A dictionary keeps the order in which connections joined, so that concurrent events reach all in one order.
        self.members: dict[Connection, None] = {}
        self.watchers: set[Connection] = set()
        self.epoch: str | None = None
        self.offset = 0
        self.lock = asyncio.Lock()
        self.bucket = (
            TokenBucket(policy.message_rate, policy.message_burst, asyncio.get_running_loop().time())
            if policy.message_rate is not None
            else None
        )


class Rooms:
    """A room is here as long as a connection of this process is in it."""

    def __init__(self, policy_of: PolicyOf, moved: Moved) -> None:
        self._policy_of = policy_of
        self._moved = moved
        self._rooms: dict[str, Room] = {}

    def __len__(self) -> int:
        return len(self._rooms)

    def all(self) -> tuple[Room, ...]:
        """Return all rooms as of now."""
        return tuple(self._rooms.values())

    def find(self, name: str) -> Room | None:
        """Return the room, None where nobody of this process is in it."""
        return self._rooms.get(name)

    def open(self, name: str) -> Room:
        """Return the room, a new one where nobody is in it."""
        room = self._rooms.get(name)
        if room is None:
            room = self._rooms[name] = Room(name, self._policy_of(name))
        return room

    def enter(self, room: Room, connection: Connection) -> None:
        """Put a connection into a room."""
        if connection in room.members:
            return
        room.members[connection] = None
        connection.rooms.add(room.name)
        self._moved(room.name, connection.user_id, 1)

    def leave(self, connection: Connection, name: str) -> bool:
        """Take a connection out of a room; False where it was not in it."""
        room = self._rooms.get(name)
        if room is None or connection not in room.members:
            return False
        del room.members[connection]
        room.watchers.discard(connection)
        connection.rooms.discard(name)
        self.tidy(room)
        self._moved(name, connection.user_id, -1)
        return True

    def leave_all(self, connection: Connection) -> None:
        """Take a connection out of all its rooms."""
        for name in tuple(connection.rooms):
            self.leave(connection, name)

    def tidy(self, room: Room) -> None:
        """Forget a room that nobody is in."""
        if not room.members and self._rooms.get(room.name) is room:
            del self._rooms[room.name]
