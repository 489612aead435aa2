"""Looking after executions: leases are renewed, progress is written, and what dead processes left behind is taken."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import structlog

from base04_hookspecs.errors import Base04Error

if TYPE_CHECKING:
    from base04.executions.executions import Executions

_TICK_S: Final = 1.0
_SWEEP_S: Final = 3600.0
_FIRST_SWEEP_S: Final = 60.0
_AFTER_START_S: Final = 0.5

_log = structlog.get_logger()


class Tending:
    """Looks after the executions of a host, in the background."""

    def __init__(self, executions: Executions) -> None:
        self._executions = executions
        self._tasks: list[asyncio.Task[None]] = []
        self._busy = asyncio.Event()

    def start(self) -> None:
        """Begin; what was left behind is taken soon."""
        if not self._tasks:
            self._busy = asyncio.Event()
            work = (self._renew(), self._recover(), self._sweep())
            self._tasks = [asyncio.create_task(one, name="executions") for one in work]

    async def stop(self) -> None:
        """End."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def look(self) -> None:
        """Notice that there is something to look after."""
        self._busy.set()

    @property
    def _lease_s(self) -> float:
        return self._executions.settings.lease

    async def _renew(self) -> None:
        executions, renewed = self._executions, time.monotonic()
        while True:
            await self._busy.wait()
            await asyncio.sleep(min(_TICK_S, self._lease_s / 3))
            due = time.monotonic() - renewed >= self._lease_s / 3
            with self._reported("executions cannot be looked after"):
                await self._write_progress(renew=due)
                if due:
                    renewed = time.monotonic()
                    await self._compare()
            if not executions.live and not executions.queued:
                self._busy.clear()

    async def _write_progress(self, *, renew: bool) -> None:
        executions = self._executions
        unwritten = {key: live for key, live in executions.live.items() if live.unwritten}
        progress = {key: live.progress or {} for key, live in unwritten.items()}
        for live in unwritten.values():
            live.unwritten = False
        held = [*executions.live, *executions.queued] if renew else []
        try:
            await executions.table.tend(executions.owner, progress, held, time.time() + self._lease_s)
        except BaseException:
            for live in unwritten.values():
                live.unwritten = True
            raise

    async def _compare(self) -> None:
        """Stop what was cancelled elsewhere, and what another process has taken since the lease had passed."""
        executions = self._executions
        live = dict(executions.live)
        owned = await executions.table.owned(executions.owner)
        for identity, one in live.items():
            if owned.get(identity):
                one.cancel()
            elif identity not in owned and identity in executions.live:
                one.lose()

    async def _recover(self) -> None:
        """Take what dead processes left behind, as soon as its lease has passed."""
        executions = self._executions
        await asyncio.sleep(_AFTER_START_S)  # whatever else is to start goes first
        while True:
            with self._reported("executions that were left behind cannot be taken"):
                if executions.executor is not None:
                    for row in await executions.table.abandoned(time.time()):
                        if row["id"] not in executions.live and row["id"] not in executions.queued:
                            await executions.take(row)
            await asyncio.sleep(self._lease_s / 2)

    async def _sweep(self) -> None:
        await asyncio.sleep(_FIRST_SWEEP_S)
        while True:
            with self._reported("old executions cannot be deleted"):
                await self._executions.sweep()
            await asyncio.sleep(_SWEEP_S)

    @contextlib.contextmanager
    def _reported(self, what: str) -> Iterator[None]:
        try:
            yield
        except Base04Error as error:
            _log.warning(what, error=str(error))
        except Exception:  # noqa: BLE001 - it is tried again; it is reported
            _log.exception(what)
