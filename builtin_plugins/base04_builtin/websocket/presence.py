"""Who is in which room, in all processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from base04_hookspecs.websocket import RoomInfo

Changed = Callable[[str, str, str], None]
"""Called with room, ``join`` or ``leave``, and the user who came with a first device or left with the last one."""


class Presence:
    """Counts the connections of each user in each room on each node.

    A node is a process. Whoever watches hears of users, not of their devices or nodes.
    """

    def __init__(self, changed: Changed) -> None:
        self._changed = changed
        self._rooms: dict[str, dict[str, dict[str, int]]] = {}

    def rooms(self) -> list[str]:
        """Return the rooms that somebody is in, sorted."""
        return sorted(self._rooms)

    def users(self, room: str) -> list[str]:
        """Return who is in a room, sorted."""
        return sorted(self._rooms.get(room, ()))

    def info(self, room: str) -> RoomInfo:
        """Return who is in a room with how many devices."""
        users = self._rooms.get(room, {})
        devices = {user: sum(users[user].values()) for user in sorted(users)}
        return {"room": room, "users": list(devices), "connections": sum(devices.values()), "devices": devices}

    def count(self, node: str, room: str, user: str) -> int:
        """Return how many connections a user has in a room on a node."""
        return self._rooms.get(room, {}).get(user, {}).get(node, 0)

    def put(self, node: str, room: str, user: str, count: int) -> None:
        """Learn how many connections a user has in a room on a node."""
        if count > 0:
            nodes = self._rooms.setdefault(room, {}).setdefault(user, {})
            first = not nodes
            nodes[node] = count
            if first:
                self._changed(room, "join", user)
            return
        users = self._rooms.get(room, {})
        if users.get(user, {}).pop(node, None) is None or users[user]:
            return
        del users[user]
        if not users:
            del self._rooms[room]
        self._changed(room, "leave", user)

    def of(self, node: str) -> Iterator[tuple[str, str, int]]:
        """Go through room, user and count of a node."""
        for room, users in self._rooms.items():
            for user, nodes in users.items():
                if node in nodes:
                    yield room, user, nodes[node]

    def replace(self, node: str, entries: dict[tuple[str, str], int]) -> None:
        """Learn everything about a node; what is not said is not there."""
        gone = [(room, user) for room, user, _ in self.of(node) if (room, user) not in entries]
        for (room, user), count in entries.items():
            self.put(node, room, user, count)
        for room, user in gone:
            self.put(node, room, user, 0)
