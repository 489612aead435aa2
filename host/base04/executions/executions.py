"""Executions in the background: taken, performed, followed, cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any, Final

import structlog

from base04.executions.history import History
from base04.executions.live import Live
from base04.executions.performing import Performing
from base04.executions.record import ended, queued_row
from base04.executions.table import FINAL, ExecutionQuery, ExecutionStatus, ExecutionTable
from base04.executions.tending import Tending
from base04_hookspecs.action_discovery import Action
from base04_hookspecs.context import RequestContext
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.errors import (
    Base04Error,
    ManagerUnavailable,
    NotFound,
    NotSupported,
    OutcomeUnknown,
)
from base04_hookspecs.executor import ExecutionJob, ExecutorManager

if TYPE_CHECKING:
    from base04.app_manager import AppManager
    from base04.settings import ExecutionSettings

_LOOK_S: Final = 1.0
"""How often an execution is looked at that another process runs."""

_STOP_S: Final = 15.0

_log = structlog.get_logger()


class Executions:
    """All that the host knows of runs of actions; one for the application, whatever generation serves."""

    def __init__(self, app: AppManager) -> None:
        self._app = app
        self.owner = uuid.uuid4().hex
        self.live: dict[str, Live] = {}
        self.queued: set[str] = set()
        self.secret: dict[str, dict[str, Any]] = {}
        self.draining = asyncio.Event()
        self.history = History(self._table_or_none, app.settings.executions.waiting)
        self.tending = Tending(self)
        self._performing = Performing(app, self)
        self._kept_table: ExecutionTable | None = None
        self._bound: ExecutorManager | None = None
        self.stopping = False
        self._news = asyncio.Event()

    # The host's own life

    async def adopt(self) -> None:
        """Give the executor of the generation that serves from now on what there is to do."""
        executor = self.executor
        if executor is self._bound:
            return
        self._bound = executor
        if executor is None:
            return
        executor.bind(self.perform)
        try:
            for identity in list(self.queued):  # which waited in the executor that served before
                row = await self.table.find(identity)
                if row is not None:
                    await executor.submit(_job(row))
        except ManagerUnavailable as error:
            self.queued.clear()  # their leases pass, and they are taken then
            _log.warning("executions that wait cannot be handed on yet", error=str(error))

    async def start(self) -> None:
        """Begin to look after executions."""
        self.draining = asyncio.Event()
        self.stopping = False
        self.history.open()
        self.tending.start()

    async def drain(self) -> None:
        """Begin nothing more, and let go of whoever follows an execution."""
        self.draining.set()
        self.tell()
        for live in self.live.values():
            live.tell()
        executor = self.executor
        if executor is not None:
            await executor.drain()

    async def stop(self) -> None:
        """Stop what runs, note what becomes of it, and write the rest of the history."""
        self.stopping = True
        self.draining.set()
        await self.tending.stop()
        for live in list(self.live.values()):
            live.stop()
        try:
            async with asyncio.timeout(_STOP_S):
                while self.live:
                    await next(iter(self.live.values())).changed()
        except TimeoutError:
            _log.error("executions did not end in time; they count as interrupted", executions=list(self.live))
        await self._let_go_of_what_waits()
        await self.history.close()
        self._kept_table = self._bound = None

    async def _let_go_of_what_waits(self) -> None:
        queued, self.queued = self.queued, set()
        for identity in queued:
            try:
                await self.table.change({"id": identity, "status": "queued", "owner": self.owner}, {"lease_until": 0.0})
            except Base04Error as error:  # its lease passes anyway
                _log.warning("an execution that waits cannot be let go of", execution=identity, error=str(error))

    # What requests ask for

    async def submit(self, action: Action, args: Mapping[str, Any] | None, context: RequestContext) -> dict[str, Any]:
        """Take an action that its caller was admitted to, to be performed in the background; return its execution.

        Raises:
            InvalidInput: the arguments are not as declared.
            ManagerUnavailable: no database or executor is running, or too many executions wait.
        """
        executor = self.executor
        if executor is None or self.stopping:
            raise ManagerUnavailable(
                f"The action {action.name!r} cannot be run in the background: no 'executor' is running just now."
            )
        filled = action.validate({} if args is None else args)
        row = queued_row(action, filled, context)
        if action.conceal is not None:
            if executor.durable:
                raise NotSupported(f"The action {action.name!r} has secret parameters, which no queue may hold.")
            self.secret[row["id"]] = filled
        row |= self._held_by(executor)
        try:
            await self.table.add([row])
        except BaseException:
            self.secret.pop(row["id"], None)
            raise
        self._hold(row["id"], executor)
        try:
            await executor.submit(_job(row))
        except BaseException:
            self.queued.discard(row["id"])
            self.secret.pop(row["id"], None)
            await asyncio.shield(self.table.remove(row["id"]))
            raise
        return await self.get(row["id"])

    async def get(self, execution_id: str) -> dict[str, Any]:
        """Return an execution as it is now.

        Raises:
            NotFound: there is none.
        """
        row = await self.table.find(execution_id)
        if row is None:
            raise NotFound(f"There is no execution {execution_id[:100]!r}.")
        live = self.live.get(execution_id)
        if live is not None:
            row["progress"] = live.progress
        return row

    async def follow(self, execution_id: str, beat_s: float = 3600.0) -> AsyncGenerator[dict[str, Any], None]:
        """Yield an execution now, and whenever it has changed, until it has ended or the host stops.

        After ``beat_s`` without a change it is yielded as it was.

        Raises:
            NotFound: there is none.
        """
        before: dict[str, Any] | None = None
        told = time.monotonic()
        while True:
            waiter = asyncio.ensure_future(self._change_of(self.live.get(execution_id)))
            try:
                row = await self.get(execution_id)
                if row != before or time.monotonic() - told >= beat_s:
                    before, told = row, time.monotonic()
                    yield row
                if row["status"] in FINAL or self.draining.is_set():
                    return
                await waiter
            finally:
                waiter.cancel()

    async def _change_of(self, live: Live | None) -> None:
        """Wait until an execution that runs here changes, and no longer than one that runs elsewhere may take."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                await (self._news.wait() if live is None else live.changed())

    def tell(self) -> None:
        """Wake whoever follows an execution that does not run here, or not yet."""
        self._news.set()
        self._news = asyncio.Event()

    async def ended(self, execution_id: str, within_s: float) -> dict[str, Any] | None:
        """Wait for the end of an execution, and return it; None where it has not ended in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                async with contextlib.aclosing(self.follow(execution_id)) as rows:
                    async for row in rows:
                        if row["status"] in FINAL:
                            return row
        return None

    async def cancel(self, execution_id: str) -> dict[str, Any]:
        """Cancel an execution, and return it; one that has ended stays as it is.

        One that runs ends shortly afterwards.

        Raises:
            NotFound: there is none.
        """
        row = await self.get(execution_id)
        if row["status"] in FINAL:
            return row
        executor = self.executor
        if await self.table.change({"id": execution_id, "status": "queued"}, ended(row, "cancelled")):
            self.queued.discard(execution_id)
            self.secret.pop(execution_id, None)
            self.tell()
        else:
            await self.table.change({"id": execution_id, "status": "running"}, {"cancel": True})
            live = self.live.get(execution_id)
            if live is not None:
                live.cancel()
                return await self.get(execution_id)
        if executor is not None:
            await executor.cancel(execution_id)
        return await self.get(execution_id)

    async def query(self, query: ExecutionQuery) -> tuple[list[dict[str, Any]], str | None]:
        """Return executions, newest first, those that wait to be written included, and the id to go on ``before``."""
        await self.history.written()
        return await self.table.page(query)

    async def perform(self, execution_id: str) -> None:
        """Run an execution in this process, to its end; nothing where it is not there to be run."""
        await self._performing.perform(execution_id)

    async def sweep(self) -> int:
        """Delete what is past its retention, and return how many executions that were. Runs by itself every hour."""
        table = self._table_or_none()
        return 0 if table is None else await table.sweep(self.settings.retention, self.settings.most)

    # What waits, and who looks after it

    def given_up(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return what becomes of an execution whose process does not run it to its end."""
        if row["cancel"]:
            return ended(row, "cancelled")
        if row["status"] == "queued":
            return {"lease_until": 0.0}
        if row["idempotent"] and row["attempt"] < self.settings.max_attempts:
            return {"status": "queued", "attempt": row["attempt"] + 1, "lease_until": 0.0, "started_at": None}
        unknown = OutcomeUnknown("The process that ran it ended before it had: what it has done by then is not known.")
        return ended(row, "interrupted", error=unknown)

    def _hold(self, identity: str, executor: ExecutorManager) -> None:
        """Keep the lease of one that waits in this process."""
        if not executor.durable:
            self.queued.add(identity)
            self.tending.look()

    async def take(self, row: Mapping[str, Any]) -> None:
        """Take an execution that nobody looks after: submit it again, or note that it was interrupted."""
        executor = self.executor
        changes = self.given_up(row)
        status: ExecutionStatus = changes.get("status", row["status"])
        if status == "queued":
            if executor is None:
                return
            changes |= self._held_by(executor)
        where = {name: row[name] for name in ("id", "status", "owner", "lease_until")}
        if not await self.table.change(where, changes):
            return
        _log.warning("an execution was left behind", execution=row["id"], action=row["action"], now=status)
        if status == "queued" and executor is not None:
            self._hold(row["id"], executor)
            await executor.submit(_job(row))

    def _held_by(self, executor: ExecutorManager) -> dict[str, Any]:
        """Return who looks after an execution that waits: this process, unless the executor keeps it."""
        if executor.durable:
            return {"owner": None, "lease_until": None}
        return {"owner": self.owner, "lease_until": time.time() + self.settings.lease}

    @property
    def settings(self) -> ExecutionSettings:
        """The settings as they are now."""
        return self._app.settings.executions

    @property
    def executor(self) -> ExecutorManager | None:
        """The executor that serves now, None where there is none."""
        newest = self._app.newest
        found = newest.find("executor") if newest is not None else None
        return found if isinstance(found, ExecutorManager) else None

    @property
    def table(self) -> ExecutionTable:
        """Where executions are kept.

        Raises:
            ManagerUnavailable: no database is running.
        """
        table = self._table_or_none()
        if table is None:
            raise ManagerUnavailable("Executions cannot be kept or read: no database is running just now.")
        return table

    def _table_or_none(self) -> ExecutionTable | None:
        newest = self._app.newest
        database = newest.find("database") if newest is not None else None
        if not isinstance(database, DatabaseManager):
            return None
        if self._kept_table is None or self._kept_table.database is not database:
            self._kept_table = ExecutionTable(database)
        return self._kept_table


def _job(row: Mapping[str, Any]) -> ExecutionJob:
    return {"id": row["id"], "action": row["action"], "priority": row["priority"]}
