"""The history of runs: written in batches, off the way of the requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from base04.actions.failures import Status
from base04.executions.record import Note, history_rows
from base04.executions.table import ExecutionTable
from base04_hookspecs.context import RequestContext
from base04_hookspecs.errors import Conflict, ManagerUnavailable, OutcomeUnknown

_BATCH: Final = 500
_PAUSE_S: Final = 0.2
_LAST_WRITE_S: Final = 5.0
_LONGEST_WAIT_S: Final = 30.0
_FLOODED: Final = 2

_log = structlog.get_logger()


class History:
    """Notes runs, and writes them shortly afterwards.

    At most ``size`` wait. When so many do, since the database is slow or away, successes are dropped, and where twice
    as many wait, failures too; both are counted.
    """

    def __init__(self, table: Callable[[], ExecutionTable | None], size: int) -> None:
        self._table = table
        self._size = size
        self._waiting: deque[Note] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """How many runs are noted and not written yet."""
        return len(self._waiting)

    def note(
        self, context: RequestContext, status: Status, began: float, duration: float, error: BaseException | None
    ) -> None:
        """Note a run that has ended; on the loop."""
        waiting = self._waiting
        if len(waiting) >= self._size and (error is None or len(waiting) >= self._size * _FLOODED):
            self.dropped += 1
            return
        waiting.append((context, status, began, duration, error))
        if self._writer is None:
            self._begin()
        elif len(waiting) == _BATCH:
            self._hurry.set()

    async def written(self) -> None:
        """Wait until everything that was noted by now is written, or cannot be; a few seconds at most."""
        self._hurry.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WRITE_S):
                await self._idle.wait()

    def open(self) -> None:
        """Note runs from now on."""
        self._closed = False

    async def close(self) -> None:
        """Write what waits, and end."""
        await self.written()
        self._closed = True
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
            self._writer = None
        lost = len(self._waiting)
        self._waiting.clear()
        self._idle.set()
        if lost or self.dropped:
            _log.warning("runs are missing in the history", runs=lost + self.dropped)

    def _begin(self) -> None:
        if self._closed:
            self._waiting.clear()
            self.dropped += 1
            return
        self._idle.clear()
        self._writer = asyncio.create_task(self._write_all(), name="history")

    async def _write_all(self) -> None:
        """Write batches until nothing waits; each after a pause in which more may come."""
        wait_s = _PAUSE_S
        try:
            while self._waiting:
                self._hurry.clear()
                if len(self._waiting) < _BATCH:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(wait_s):
                            await self._hurry.wait()
                wait_s = _PAUSE_S if await self._write() else min(wait_s * 2, _LONGEST_WAIT_S)
        finally:
            self._writer = None
            if not self._waiting:
                self._idle.set()

    async def _write(self) -> bool:
        """Write one batch; what cannot be written just now is kept, if there is room."""
        notes = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        table = self._table()
        if table is None:  # a host without a database keeps no history
            return True
        try:
            await table.add(history_rows(notes))
        except Conflict:  # an earlier attempt, whose outcome was not known, had written them
            return True
        except (ManagerUnavailable, OutcomeUnknown, asyncio.CancelledError) as error:
            self._waiting.extendleft(reversed(notes))
            if isinstance(error, asyncio.CancelledError):
                raise
            _log.warning("the history cannot be written just now", runs=len(self._waiting), error=str(error))
            return False
        except Exception:  # noqa: BLE001 - what cannot be written now never can; it is reported
            self.dropped += len(notes)
            _log.exception("runs cannot be written to the history", runs=len(notes))
        return True
