"""What a client knows of its rooms."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from base04_hookspecs.websocket import Position


@dataclass(frozen=True, slots=True)
class RoomMessage:
    """An event of a room. ``sender`` is the user whose client emitted it, None for an event of the server."""

    room: str
    event: str
    data: Any
    sender: str | None = None
    position: Position | None = None


@dataclass(frozen=True, slots=True)
class PresenceChange:
    """Who is in a room now. ``event`` is ``join`` or ``leave`` of ``user_id``, or ``users`` for all at once."""

    room: str
    event: str
    user_id: str | None
    users: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """Events of the room are missing, or may be: ask for the present state."""

    room: str


RoomEvent = RoomMessage | PresenceChange | Gap


@dataclass(slots=True)
class Room:
    """One room that the client wants to be in.

    ``joined`` is whether this connection is in it, ``entered`` whether any was. ``waiting`` are who waits for it.
    """

    name: str
    presence: bool = False
    position: Position | None = None
    users: set[str] = field(default_factory=set)
    joined: bool = False
    entered: bool = False
    waiting: list[asyncio.Future[bool]] = field(default_factory=list)

    def join_message(self) -> dict[str, Any]:
        """Return what asks for the room, and for what was missed where there was a position."""
        message: dict[str, Any] = {"type": "join", "room": self.name}
        if self.presence:
            message["presence"] = True
        if not self.joined and self.position is not None:
            message["since"] = self.position
        return message

    def let_in(self, answer: Mapping[str, Any]) -> tuple[bool, list[RoomEvent]]:
        """Take the answer to the join; return whether nothing was missed, and what the program is to hear of it."""
        recovered = self.joined or not self.entered or answer.get("recovered") is True
        self.joined = self.entered = True
        if answer.get("epoch") is not None:
            self.position = {"epoch": answer["epoch"], "offset": answer["offset"]}
        heard: list[RoomEvent] = [] if recovered else [Gap(self.name)]
        if "users" in answer:
            self.users = set(answer["users"])
            heard.append(self._presence("users", None))
        return recovered, heard

    def take_event(self, message: Mapping[str, Any]) -> list[RoomEvent]:
        """Return what the program is to hear: nothing of an event that came before, a gap where some are missing."""
        heard: list[RoomEvent] = []
        position: Position | None = None
        if message.get("offset") is not None:
            position = {"epoch": message["epoch"], "offset": message["offset"]}
            if self.position is not None:
                same = self.position["epoch"] == position["epoch"]
                if same and position["offset"] <= self.position["offset"]:
                    return []
                if not same or position["offset"] > self.position["offset"] + 1:
                    heard.append(Gap(self.name))
            self.position = position
        heard.append(RoomMessage(self.name, message["event"], message["data"], message.get("sender"), position))
        return heard

    def take_gap(self, message: Mapping[str, Any]) -> list[RoomEvent]:
        """Go on from the position that the server tells."""
        if message.get("epoch") is not None:
            self.position = {"epoch": message["epoch"], "offset": message["offset"]}
        return [Gap(self.name)]

    def take_presence(self, message: Mapping[str, Any]) -> list[RoomEvent]:
        """Know who came and who left."""
        user: str = message["user_id"]
        if message["event"] == "join":
            self.users.add(user)
        else:
            self.users.discard(user)
        return [self._presence(message["event"], user)]

    def _presence(self, event: str, user_id: str | None) -> PresenceChange:
        return PresenceChange(self.name, event, user_id, tuple(sorted(self.users)))
