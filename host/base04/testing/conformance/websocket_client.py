"""What the suites of the role ``websocket`` need of a client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, NotRequired, Protocol, TypedDict

from base04_hookspecs.websocket import Position, RoomInfo

TIMEOUT_S = 10.0
"""How long the suites wait for what must happen."""

Told = Literal["presence", "gap", "reconnect"]


class Joined(TypedDict):
    """What a client is told of a room that it joins; the docstring of ``Client.join`` says when there is what."""

    epoch: str | None
    offset: int | None
    recovered: NotRequired[bool]
    users: NotRequired[list[str]]


class Refused(Exception):
    """The server refused what a client asked for; ``code`` is whatever the protocol calls it."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Client(Protocol):
    """A connected and authenticated client, in whatever protocol the provider speaks.

    The methods return when the server has acknowledged, and raise ``Refused`` where it refuses.
    """

    @property
    def sid(self) -> str: ...
    async def join(self, room: str, since: Position | None = None, presence: bool = False) -> Joined:
        """Join a room; missed events, which come first, are ``event``s like others.

        ``recovered`` is for ``since``, ``users`` for ``presence``. Without ``recovery`` epoch and offset may be None.
        """

    async def leave(self, room: str) -> None: ...
    async def emit(self, room: str | None, event: str, data: Any) -> Any:
        """Emit an event and return what its handler answered, anything where it went to the room."""

    async def call(self, action: str, args: Mapping[str, Any]) -> Any: ...
    async def event(self) -> tuple[str, str, Any]:
        """Wait for an event and return its room, name and data."""

    def position(self, room: str) -> Position:
        """Return the position of the newest event of a room that ``event`` has returned, or of the join."""

    async def told(self, kind: Told) -> Mapping[str, Any]:
        """Wait for the next thing of a kind that the server says by itself.

        ``presence`` has ``room``, ``event`` (``join`` or ``leave``) and ``user_id``, ``gap`` has ``room``, ``epoch``
        and ``offset``, ``reconnect`` has ``after``. Things of other kinds stay for later.
        """

    async def closed(self) -> int:
        """Wait until the server has closed the connection and return the close code."""

    async def close(self) -> None: ...


class Connect(Protocol):
    """The fixture ``connect``: connects as a user who holds the permissions."""

    def __call__(self, user_id: str, permissions: tuple[str, ...] = ()) -> Awaitable[Client]: ...


async def within(awaitable: Awaitable[Any]) -> Any:
    """Wait for something that must happen."""
    async with asyncio.timeout(TIMEOUT_S):
        return await awaitable


def room_of(room: str, **devices: int) -> RoomInfo:
    """Return what is told of a room in which these users have so many sockets each."""
    return {"room": room, "users": sorted(devices), "connections": sum(devices.values()), "devices": devices}


async def until(ask: Callable[[], Awaitable[Any]], true: Callable[[Any], bool]) -> None:
    """Ask until the answer is true; what nothing announces."""
    while not true(await ask()):  # noqa: ASYNC110 - the contract has no event for it
        await asyncio.sleep(0.005)
