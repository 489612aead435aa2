"""The rooms of this process, and their ties to those of the other processes."""

from __future__ import annotations

import secrets

from base04_builtin.redis.memory import MemoryRedisManager, MemoryRedisSettings
from base04_builtin.websocket import messages
from base04_builtin.websocket.bus import Bus
from base04_builtin.websocket.connection import Connection
from base04_builtin.websocket.delivery import Delivery
from base04_builtin.websocket.neighbours import Neighbours
from base04_builtin.websocket.policies import room_policies
from base04_builtin.websocket.presence import Presence
from base04_builtin.websocket.room_log import RoomLog
from base04_builtin.websocket.rooms import Rooms
from base04_builtin.websocket.settings import NativeSettings
from base04_hookspecs.redis import RedisManager, held_here


class Hub:
    """Rooms, what is sent to them, and who is in them.

    Where the ``redis`` role is shared, events and presence go through it. Where it is not, they stay here, and the
    events are kept in a store of their own, so that they cannot take the room of what others keep.
    """

    def __init__(self, settings: NativeSettings, redis: RedisManager | None) -> None:
        self.policy_of = room_policies(settings)
        self.presence = Presence(self._user_moved)
        self.rooms = Rooms(self.policy_of, self._connection_moved)
        self.node = secrets.token_urlsafe(9)
        self.neighbours: Neighbours | None = None
        self._settings = settings
        self._redis = redis
        self._bus: Bus | None = None
        self._own = MemoryRedisManager(MemoryRedisSettings(max_bytes=settings.history_total_bytes, policy="evict"))
        self.log = RoomLog(self._own, self.policy_of)
        self.delivery = Delivery(self.rooms, self.log)

    async def start(self) -> None:
        """Find the other processes.

        Raises:
            ManagerUnavailable: the ``redis`` role cannot be reached.
        """
        await self._own.start()
        self.delivery.link.start()
        redis = self._redis
        if redis is None or held_here(redis, "websocket", object) is not None:
            return
        bus = self._bus = Bus(redis, self.node)
        self.log = RoomLog(redis, self.policy_of)
        self.delivery.share(self.log, bus.announce)
        neighbours = Neighbours(self.presence, redis, bus, self.node, self._settings.presence_lease)
        await bus.start(self.delivery.take, neighbours.heard, self.delivery.look, neighbours.missed)
        self.neighbours = neighbours
        await neighbours.start()

    async def stop(self) -> None:
        """Take leave of the other processes."""
        neighbours, self.neighbours = self.neighbours, None
        bus, self._bus = self._bus, None
        if neighbours is not None:
            await neighbours.stop()
        if bus is not None:
            await bus.stop()
        await self.delivery.stop()
        await self._own.stop()

    async def sweep(self) -> None:
        """Drop events that are too old where nobody else does so."""
        await self._own.health_check()

    def watch(self, connection: Connection, room: str) -> list[str]:
        """Tell a member of a room of users who come and go, and return who is there now."""
        found = self.rooms.find(room)
        if found is not None and connection in found.members:
            found.watchers.add(connection)
        return self.presence.users(room)

    def unwatch(self, connection: Connection, room: str) -> None:
        """Tell a member no more of users who come and go."""
        found = self.rooms.find(room)
        if found is not None:
            found.watchers.discard(connection)

    def _connection_moved(self, room: str, user: str, by: int) -> None:
        if self.neighbours is not None:
            self.neighbours.moved(room, user, by)
        else:
            self.presence.put(self.node, room, user, self.presence.count(self.node, room, user) + by)

    def _user_moved(self, room: str, event: str, user: str) -> None:
        found = self.rooms.find(room)
        if found is not None and found.watchers:
            frame = messages.presence(room, event, user)
            for watcher in tuple(found.watchers):
                watcher.send(frame)
