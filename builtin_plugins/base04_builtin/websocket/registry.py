"""The connections of one manager."""

from __future__ import annotations

import asyncio

import structlog

from base04_builtin.websocket.connection import Connection, describe
from base04_builtin.websocket.rooms import Rooms
from base04_hookspecs.websocket import SessionInfo

_log = structlog.get_logger()


class Registry:
    """Knows all connections, those with a user by sid, and the rooms that they are in."""

    def __init__(self, rooms: Rooms) -> None:
        self.rooms = rooms
        self.accepting = False
        self.slow_readers = 0
        self.failures = 0
        self._all: dict[Connection, None] = {}
        self._sessions: dict[str, Connection] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: Connection) -> None:
        """Take a connection whose handshake begins."""
        self._all[connection] = None
        self._empty.clear()

    def admit(self, connection: Connection) -> None:
        """Make a connection that has a user now known by its sid."""
        self._sessions[connection.sid] = connection

    def remove(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self.rooms.leave_all(connection)
        self._sessions.pop(connection.sid, None)
        self._all.pop(connection, None)
        if not self._all:
            self._empty.set()

    def connections(self) -> tuple[Connection, ...]:
        """Return all connections as of now, those without a user included."""
        return tuple(self._all)

    def sessions(self) -> tuple[Connection, ...]:
        """Return the connections that have a user, as of now."""
        return tuple(self._sessions.values())

    def find(self, sid: str) -> Connection | None:
        """Return the connection of a sid if it has a user and is not being closed."""
        connection = self._sessions.get(sid)
        return connection if connection is not None and connection.live else None

    def infos(self, user_id: str | None) -> list[SessionInfo]:
        """Describe the connections of a user, or all."""
        return [c.info() for c in self.sessions() if user_id is None or c.principal.user_id == user_id]

    def count_slow_reader(self, connection: Connection) -> None:
        """Count a connection that is closed because its client reads too slowly."""
        self.slow_readers += 1
        _log.warning("websocket client reads too slowly and is closed", **describe(connection))

    async def emptied(self) -> None:
        """Return when there is no connection."""
        await self._empty.wait()
