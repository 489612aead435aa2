"""Running an execution in this process, and writing down how it ended."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog

from base04.executions.announcing import Announcer
from base04.executions.live import Live
from base04.executions.record import ended, request_of
from base04.telemetry.origin import forget_origin, note_origin
from base04_hookspecs.context import use_request
from base04_hookspecs.errors import ActionFailed, Base04Error, ManagerUnavailable, NotSupported, OutcomeUnknown

if TYPE_CHECKING:
    from base04.app_manager import AppManager
    from base04.executions.executions import Executions
    from base04.pipeline import Pipeline

_WRITES: Final = 6
"""How often the end of an execution is tried to be written, with pauses that double from half a second."""

_log = structlog.get_logger()


class Performing:
    """Performs the executions of a host, each in the task that an executor calls it from."""

    def __init__(self, app: AppManager, executions: Executions) -> None:
        self._app, self._executions = app, executions
        self._announcer = Announcer(app)

    async def perform(self, execution_id: str) -> None:
        """Run an execution in this process, to its end; nothing where it is not there to be run."""
        if self._executions.stopping:
            return
        row = await self._executions.table.claim(execution_id, self._executions.owner, self._executions.settings.lease)
        self._executions.queued.discard(execution_id)
        if row is None:
            self._executions.secret.pop(execution_id, None)
            return
        origin = note_origin((row["request_id"], row["trace"] and row["trace"].encode()))
        try:
            with use_request(dataclasses.replace(request_of(row), action=row["action"])):
                await self._perform(row)
        finally:
            forget_origin(origin)

    async def _perform(self, row: dict[str, Any]) -> None:
        """Run what was claimed; log lines, whoever writes them, have the marks of the request that asked for it."""
        execution_id, counts = row["id"], self._app.counts
        counts.waited(row["action"], row["started_at"] - row["created_at"])
        live = self._executions.live[execution_id] = Live(row, asyncio.current_task())
        self._executions.tending.look()
        self._executions.tell()
        telling = asyncio.create_task(self._announcer.follow(live), name="announce execution")
        try:
            changes = await self._run(row, live)
            live.ending = True
            if changes.get("duration") is not None:
                counts.performed(row["action"], changes["status"], changes["duration"])
            if not live.lost:
                await self._write_end(execution_id, changes)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            del self._executions.live[execution_id]
            live.tell()
        await self._announcer.emit({**row, **changes})

    async def _run(self, row: Mapping[str, Any], live: Live) -> dict[str, Any]:
        """Run it, and return what changes: that it has ended, or that it waits to be run again."""
        try:
            with self._app.generation.pin() as generation:
                return await self._outcome(generation.pipeline, row, live)
        except asyncio.CancelledError:
            return self._cancelled(row, live)
        except Base04Error as error:  # it was not begun: its action is gone, or its caller may not any more
            return ended(row, "failed", error=error)
        except Exception as error:  # noqa: BLE001 - whatever it was, the execution has ended; it is logged
            _log.exception("an execution failed outside of its action", execution=row["id"])
            return ended(row, "failed", error=ActionFailed(str(error), action=row["action"]))

    async def _outcome(self, pipeline: Pipeline, row: Mapping[str, Any], live: Live) -> dict[str, Any]:
        action = pipeline.find(row["action"])
        args = self._executions.secret.pop(row["id"], None)
        if args is None:
            if action.conceal is not None:
                raise NotSupported("It cannot be run again: its secret arguments went with the process that had them.")
            args = orjson.loads(row["arguments"])
        outcome, written = await pipeline.perform(row["action"], args, request_of(row), live.report)
        if outcome.status == "cancelled":
            return self._cancelled(row, live)
        result = written if outcome.error is None else None
        if result is not None and action.conceal_result is not None:
            result = orjson.dumps(action.conceal_result(outcome.result))
        return {**ended(row, outcome.status, result=result, error=outcome.error), "progress": live.progress}

    def _cancelled(self, row: Mapping[str, Any], live: Live) -> dict[str, Any]:
        """Return what becomes of what was stopped: it was to be, or it is run again, or it was interrupted."""
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()
        if live.cancel_requested:
            return {**ended(row, "cancelled"), "progress": live.progress}
        return {**self._executions.given_up(row), "progress": live.progress}

    async def _write_end(self, execution_id: str, changes: Mapping[str, Any]) -> None:
        where = {"id": execution_id, "owner": self._executions.owner, "status": "running"}
        for attempt in range(_WRITES):
            try:
                if not await self._executions.table.change(where, changes) and not attempt:
                    _log.warning("an execution was taken by another process", execution=execution_id)
            except (ManagerUnavailable, OutcomeUnknown) as error:
                _log.warning("the end of an execution cannot be written", execution=execution_id, error=str(error))
                if self._executions.stopping:
                    return
                await asyncio.sleep(2**attempt / 2)
            else:
                return
        _log.error("the end of an execution is lost; it counts as interrupted", execution=execution_id)
