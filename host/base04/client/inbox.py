"""Events that wait to be read."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable

from base04.client.rooms import Gap, RoomEvent


class Inbox:
    """A bounded queue. What does not fit is dropped, and whoever reads is told so with a gap of that room."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._events: deque[RoomEvent] = deque()
        self._dropped: dict[str, None] = {}
        self._changed = asyncio.Event()
        self._error: Exception | None = None

    def put(self, events: Iterable[RoomEvent]) -> None:
        """Let events wait."""
        for event in events:
            if event.room in self._dropped or len(self._events) >= self._size:
                self._dropped[event.room] = None
            else:
                self._events.append(event)
        self._changed.set()

    def end(self, error: Exception | None) -> None:
        """Let whoever reads come to an end after what waits, with an error where there is one."""
        self._error = error or StopAsyncIteration()
        self._changed.set()

    async def read(self) -> AsyncIterator[RoomEvent]:
        """Yield events as they come.

        Raises:
            ClientClosed: the client gave up.
        """
        while True:
            while self._events:
                yield self._events.popleft()
            if self._dropped:
                room = next(iter(self._dropped))
                del self._dropped[room]
                yield Gap(room)
            elif isinstance(self._error, StopAsyncIteration):
                return
            elif self._error is not None:
                raise self._error
            else:
                self._changed.clear()
                await self._changed.wait()
