"""Events on their way to the members of rooms, each room's in one order, with nothing left out unsaid."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from base04_builtin.websocket import messages
from base04_builtin.websocket.bus import Announce
from base04_builtin.websocket.connection import Connection
from base04_builtin.websocket.link import Link
from base04_builtin.websocket.room_log import Page, RoomLog
from base04_builtin.websocket.rooms import Room, Rooms
from base04_hookspecs.errors import ManagerError
from base04_hookspecs.websocket import Position

_TURN: Final = 500  # connections that are sent to before others get a turn of the event loop
_AT_ONCE: Final = 16
_LITTLE: Final = 16
_NOWHERE: Final[Position] = {"epoch": "-", "offset": 0}
"""A position of no epoch: nothing comes after it."""


class Delivery:
    """Places events in the log of their room and sends them to the members of this process.

    What comes in order is sent at once. Where an offset is left out, or the epoch is another one, the log is read: it
    has what another process has placed and not yet announced. What it has no more is told to the members as a gap.
    While the log is out of reach, events go to the members of this process alone and without a position; the room then
    gets a new epoch, from which everybody sees that something is missing.
    """

    def __init__(self, rooms: Rooms, log: RoomLog) -> None:
        self.link = Link(self._make_up, self.look)
        self.gaps = 0
        self._rooms = rooms
        self._log = log
        self._announce: Announce | None = None
        self._unplaced: set[str] = set()
        self._unannounced: set[str] = set()
        self._later: set[asyncio.Task[None]] = set()

    def share(self, log: RoomLog, announce: Announce) -> None:
        """Use a log that other processes use too, and tell them of events."""
        self._log = log
        self._announce = announce

    async def emit(self, room: str, event: str, data: Any, sender: str | None = None) -> tuple[int, Position | None]:
        """Send an event; returns how many connections of this process it was queued for, and its position.

        Raises:
            InvalidInput: it is not JSON.
        """
        text = messages.event_text(room, event, data, sender)
        try:
            return await self._emit(room, text)
        except asyncio.CancelledError:  # it may have its place, and nobody would learn of it before the next one
            self._look_later(room)
            raise

    async def stop(self) -> None:
        """Give up whatever is to be made up for."""
        await self.link.stop()
        tasks = tuple(self._later)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _emit(self, room: str, text: str) -> tuple[int, Position | None]:
        placed = await self._place(room, text)
        if placed is None:
            return await self._send_unplaced(room, text), None
        epoch, offset = placed
        reached = await self.take(room, epoch, offset, text)
        if self._announce is not None:
            await self._tell(self._announce, room, epoch, offset, text)
        # Without a turn of the loop, whoever emits without a pause would fill the queues of clients that read in time.
        await asyncio.sleep(0)
        return reached, {"epoch": epoch, "offset": offset}

    async def take(self, name: str, epoch: str, offset: int, text: str | None) -> int:
        """Send an event that has its place; without a text, whatever there is up to there. Returns the members."""
        room = self._rooms.find(name)
        if room is None:
            return 0
        async with room.lock:
            if room.epoch == epoch and offset == room.offset + 1 and text is not None:
                reached = await _send(room.members, messages.event_frame(text, epoch, offset))
                room.offset = offset  # now: what is cancelled before comes again
                return reached
            if room.epoch != epoch or offset > room.offset:
                await self._catch_up(room)
            return len(room.members)

    async def join(self, connection: Connection, name: str, since: Position | None = None) -> Page | None:
        """Put a connection into a room, after what it has missed; returns what that was, None where it is not known.

        Without ``since`` nothing was missed, and the page is empty. A connection that is being closed is not put there.
        """
        all_so_far = True
        if since is not None:
            since, all_so_far = await self._feed(connection, name, since)
        while True:
            room = self._rooms.open(name)
            async with room.lock:
                if self._rooms.find(name) is not room:  # its last member left while this waited
                    continue
                try:
                    page = await self._enter(room, connection, since)
                finally:
                    self._rooms.tidy(room)
                return page if page is None or all_so_far else replace(page, complete=False)

    async def look(self) -> None:
        """Make sure that the members of all rooms have got what there is."""
        for begin in range(0, len(rooms := self._rooms.all()), _AT_ONCE):
            await asyncio.gather(*map(self._look_at, rooms[begin : begin + _AT_ONCE]))

    async def _feed(self, connection: Connection, name: str, since: Position) -> tuple[Position, bool]:
        """Send a newcomer what it has missed, no faster than it reads, until little is left.

        Nobody waits for it meanwhile. Returns how far it has got, and whether that was all until there.
        """
        complete = True
        while connection.live:
            page = await self._read(name, since)
            if page is None or len(page.texts) <= _LITTLE:
                break
            for offset, text in enumerate(page.texts, page.first):
                connection.send(messages.event_frame(text, page.epoch, offset))
                if offset % _LITTLE == 0:
                    await connection.outbox.flushed()
            complete = complete and page.complete
            since = {"epoch": page.epoch, "offset": page.offset}
        await connection.outbox.flushed()
        return since, complete

    async def _look_at(self, room: Room) -> None:
        async with room.lock:
            await self._catch_up(room)

    async def _enter(self, room: Room, connection: Connection, since: Position | None) -> Page | None:
        page = await self._page_for(room, since)
        if not connection.live:
            return None
        if page is not None and since is not None:
            for offset, text in enumerate(page.texts, page.first):
                connection.send(messages.event_frame(text, page.epoch, offset))
        self._rooms.enter(room, connection)
        return page

    async def _page_for(self, room: Room, since: Position | None) -> Page | None:
        """Return what a newcomer is to get so that it has got as much as the members. The lock is held."""
        if room.members:
            if since is not None or room.epoch is None:
                await self._catch_up(room)
        else:
            newest = await self._read(room.name, since or _NOWHERE)
            if newest is None:
                return None
            room.epoch, room.offset = newest.epoch, newest.offset
            if since is not None:
                return newest
        if room.epoch is None:
            return None
        if since is None:
            return Page(room.epoch, room.offset, (), True)
        page = await self._read(room.name, since)
        if page is None or page.epoch != room.epoch:  # it has just got another one, which the members hear of next
            return Page(room.epoch, room.offset, (), False)
        return page.until(room.offset)

    async def _catch_up(self, room: Room) -> None:
        """Send what the log has and the members have not, and tell them of a gap. The lock is held.

        Of a new epoch they have had nothing yet. Where it was not known how far they had got, they get nothing old.
        """
        page = await self._read(room.name, _position(room))
        if page is not None and room.epoch not in (None, page.epoch):
            page = await self._read(room.name)
        if page is None:  # the members stay where they are, and the recovery looks again
            return
        if room.members and not (room.epoch == page.epoch and page.complete):
            self.gaps += 1
            await _send(room.members, messages.gap(room.name, page.epoch, page.first - 1))
        for offset, text in enumerate(page.texts, page.first):
            await _send(room.members, messages.event_frame(text, page.epoch, offset))
            await asyncio.sleep(0)  # for the writes
        room.epoch, room.offset = page.epoch, page.offset

    async def _read(self, room: str, since: Position | None = None) -> Page | None:
        if not self.link.up:
            return None
        try:
            return await self._log.read(room, since)
        except ManagerError as error:
            self.link.fail(error)
            return None

    async def _place(self, room: str, text: str) -> tuple[str, int] | None:
        failure = None
        if self.link.up:
            try:
                return await self._log.append(room, text)
            except ManagerError as error:
                failure = error
        self._unplaced.add(room)  # ahead of the recovery
        if failure is not None:
            self.link.fail(failure)
        return None

    async def _send_unplaced(self, name: str, text: str) -> int:
        room = self._rooms.find(name)
        if room is None:
            return 0
        async with room.lock:
            reached = await _send(room.members, messages.event_frame(text))
        await asyncio.sleep(0)
        return reached

    async def _tell(self, announce: Announce, room: str, epoch: str, offset: int, text: str) -> None:
        try:
            await announce(room, epoch, offset, text)
        except ManagerError as error:
            self._unannounced.add(room)
            self.link.fail(error)

    async def _make_up(self) -> bool:
        """Give what happened meanwhile a place, tell the other processes, and bring the members of this one up."""
        await self._log.require()
        while self._unplaced:
            room = next(iter(self._unplaced))
            await self._log.renew(room)
            self._unplaced.discard(room)
            self._unannounced.add(room)
        while self._unannounced:
            room = self._unannounced.pop()
            try:
                await self._tell_to_look(room)
            except BaseException:
                self._unannounced.add(room)
                raise
        return not self._unplaced

    async def _tell_to_look(self, room: str) -> None:
        if self._announce is not None:
            await self._announce(room, _NOWHERE["epoch"], 0, None)

    def _look_later(self, room: str) -> None:
        task = asyncio.get_running_loop().create_task(self._look_everywhere(room), name="websocket look")
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _look_everywhere(self, name: str) -> None:
        room = self._rooms.find(name)
        if room is not None:
            await self._look_at(room)
        try:
            await self._tell_to_look(name)
        except ManagerError as error:
            self._unannounced.add(name)
            self.link.fail(error)


def _position(room: Room) -> Position:
    return {"epoch": room.epoch, "offset": room.offset} if room.epoch is not None else _NOWHERE


async def _send(members: Iterable[Connection], frame: messages.Frame) -> int:
    queued = 0
    for position, member in enumerate(tuple(members), 1):
        queued += member.send(frame)
        if position % _TURN == 0:
            await asyncio.sleep(0)
    return queued
