"""How events get into the outbox: written together, and kept in memory while the database is away."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from base04_hookspecs.errors import Base04Error, Conflict, InvalidInput
from base04_webhooks.outbox import Letter, Outbox

_AT_ONCE: Final = 200
_PAUSE_S: Final = 1.0

Batch = Sequence[tuple[Letter, "asyncio.Future[None] | None"]]

_log = structlog.get_logger()


class Intake:
    """A bounded queue and the task that empties it into the outbox.

    Where the queue is full the oldest letters go: whoever puts something in never waits for room.
    """

    def __init__(self, outbox: Outbox, size: int, written: Callable[[], None]) -> None:
        self.dropped = 0
        self.trouble: str | None = None
        self._outbox = outbox
        self._size = size
        self._written = written
        self._waiting: deque[tuple[Letter, asyncio.Future[None] | None]] = deque()
        self._ending = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._write_all(), name="webhooks intake")

    def put(self, letters: Sequence[Letter]) -> None:
        """Queue letters."""
        self._queue(letters, None)

    async def write(self, letters: Sequence[Letter]) -> None:
        """Queue letters and wait until they are written, or until it is clear that this takes longer."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue(letters, done)
        if self.trouble is None:
            await done

    async def stop(self, timeout_s: float) -> None:
        """Write what waits, for so many seconds at most."""
        task, self._task = self._task, None
        if task is None:
            return
        self._ending = True
        self._wake.set()
        await asyncio.wait([task], timeout=timeout_s)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        if self._waiting:
            self.dropped += len(self._waiting)
            _log.error("events were not written and are lost", count=len(self._waiting), error=self.trouble)
            self._release(list(self._waiting))

    def _queue(self, letters: Sequence[Letter], done: asyncio.Future[None] | None) -> None:
        self._waiting.extend((letter, done) for letter in letters)
        overflow = [self._waiting.popleft() for _ in range(len(self._waiting) - self._size)]
        if overflow:
            if not self.dropped:
                _log.error("too many events wait to be written, the oldest are dropped", error=self.trouble)
            self.dropped += len(overflow)
            self._release(overflow)
        self._wake.set()

    async def _write_all(self) -> None:
        while True:
            if not self._waiting:
                if self._ending:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            batch = [self._waiting[index] for index in range(min(len(self._waiting), _AT_ONCE))]
            try:
                await self._write(batch)
            except Base04Error as error:
                await self._wait(error)
                continue
            self.trouble = None
            self._forget(batch)
            self._written()

    async def _write(self, batch: Batch) -> None:
        """Write letters together, or one by one where some are there already or cannot be stored.

        Some may be there because the outcome of a former attempt was unknown; their ids tell.
        """
        try:
            await self._outbox.add([letter for letter, _ in batch])
        except (Conflict, InvalidInput):
            for letter, _ in batch:
                await self._write_one(letter)

    async def _write_one(self, letter: Letter) -> None:
        try:
            await self._outbox.add([letter])
        except Conflict:
            return
        except InvalidInput as error:
            self.dropped += 1
            _log.error("an event cannot be stored and is lost", message_event=letter.event, error=str(error))

    async def _wait(self, error: Base04Error) -> None:
        if self.trouble is None:
            _log.warning("events cannot be written just now and wait in memory", error=str(error))
        self.trouble = str(error)
        self._release(list(self._waiting))  # whoever waits has heard enough
        if self._ending:
            raise asyncio.CancelledError
        await asyncio.sleep(_PAUSE_S)

    def _forget(self, batch: Batch) -> None:
        written = {letter.id for letter, _ in batch}
        while self._waiting and self._waiting[0][0].id in written:  # the oldest may have been dropped meanwhile
            self._waiting.popleft()
        self._release(batch)

    @staticmethod
    def _release(batch: Batch) -> None:
        for _, done in batch:
            if done is not None and not done.done():
                done.set_result(None)
