"""The audit log: who was let in and who was not, and what was done to tokens and keys."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import structlog

from base04.lifecycle import within
from base04.plugins.isolation import escapes
from base04.records.audit_table import AuditQuery, AuditTable
from base04.records.denials import Denials
from base04.selection import InstanceKey
from base04_hookspecs.context import LOCAL, RequestContext, current_request
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.errors import Base04Error, ManagerUnavailable, NotSupported
from base04_hookspecs.hooks import HooksManager
from base04_hookspecs.host_hooks import AuditEvent

if TYPE_CHECKING:
    from base04.app_manager import AppManager
    from base04.generation import Generation

Outcome = Literal["success", "denied", "error"]

REFRESH_REUSED: Final = "jwt.refresh_reused"
"""The hook by which the role ``jwt`` tells that a used refresh token came again."""

_DATABASE: Final = InstanceKey("database", "default")
_WAITING: Final = 1024
_LAST_WRITE_S: Final = 5.0
_LISTENER_S: Final = 5.0
_FIRST_SWEEP_S: Final = 60.0
_SWEEP_S: Final = 3600.0

_log = structlog.get_logger()


class AuditLog:
    """Keeps audit events in the database and tells the plugins that listen.

    What was done is written before it is answered. What was denied is written in the background, the first of a kind
    at once and the rest as a number.
    """

    def __init__(self, app: AppManager) -> None:
        self._app = app
        self._settings = app.settings.audit
        self._denials = Denials(self._settings.window, self._settings.window_size)
        self._table: AuditTable | None = None
        self._waiting: asyncio.Queue[AuditEvent] = asyncio.Queue(_WAITING)
        self._tasks: list[asyncio.Task[None]] = []
        self._listens_to: HooksManager | None = None
        self.dropped = 0

    async def start(self) -> None:
        """Begin to write in the background."""
        if not self._tasks:
            self._waiting = asyncio.Queue(_WAITING)
            work = (self._write_denials(), self._count_denials(), self._sweep())
            self._tasks = [asyncio.create_task(one, name="audit") for one in work]

    async def stop(self) -> None:
        """Write what waits, for a few seconds at most, and end."""
        tasks, self._tasks = self._tasks, []
        if not tasks:
            return
        for event in self._denials.ended(all_windows=True):
            self._put(event)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WRITE_S):
                await self._waiting.join()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.dropped or not self._waiting.empty():
            _log.warning("audit events were lost", denials=self.dropped + self._waiting.qsize())
        self._table = None
        await self._hear(None)

    async def adopt(self, generation: Generation) -> None:
        """Listen to the hooks of a generation that serves from now on."""
        hooks = generation.find("hooks")
        await self._hear(hooks if isinstance(hooks, HooksManager) else None)

    async def record(self, event: str, outcome: Outcome, context: RequestContext | None = None, **details: Any) -> None:
        """Write what was done, then tell the listeners; ``details`` hold no secrets.

        Raises:
            ManagerUnavailable: it cannot be written, so what was done must not be answered. The log has it.
        """
        context = context or current_request() or RequestContext("", LOCAL)
        found: AuditEvent = {
            "event": event,
            "at": time.time(),
            "outcome": outcome,
            "user_id": context.principal.user_id,
            "client_ip": context.client_ip,
            "request_id": context.request_id,
            "details": details,
        }
        table = self._current_table()
        if table is not None:
            await _add(table, found)
        elif _DATABASE in self._app.generation.down:
            _log.error("an audit event cannot be written", **_named(found))
            raise ManagerUnavailable("The audit log cannot be written: the database is not up just now.")
        else:  # a host that has no database on purpose
            _log.info("audit", **_named(found))
        await self._tell(found)

    def deny(self, event: str, reason: str, context: RequestContext, **details: Any) -> None:
        """Note that somebody was refused. ``reason`` is for the log, and for those who may read it."""
        first = self._denials.note(event, reason, context, details)
        if first is None:
            return
        _log.info(
            "a caller was refused",
            reason=reason,
            client_ip=context.client_ip,
            request_id=context.request_id,
            **details,
        )
        self._put(first)

    async def query(self, query: AuditQuery) -> tuple[list[dict[str, Any]], str | None]:
        """Return events, newest first, those that wait included, and the id to go on ``before``.

        Raises:
            ManagerUnavailable: there is no database, or it does not answer.
        """
        table = self._current_table()
        if table is None:
            raise ManagerUnavailable("The audit log cannot be read: no database is running just now.")
        if self._tasks:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WRITE_S):
                    await self._waiting.join()
        return await table.page(query)

    def _current_table(self) -> AuditTable | None:
        database = self._app.generation.find("database")
        if not isinstance(database, DatabaseManager):
            return None
        if self._table is None or self._table.database is not database:
            self._table = AuditTable(database)
        return self._table

    def _put(self, event: AuditEvent) -> None:
        try:
            self._waiting.put_nowait(event)
        except asyncio.QueueFull:
            self.dropped += 1

    async def _write_denials(self) -> None:
        while True:
            events = [await self._waiting.get()]
            while not self._waiting.empty() and len(events) < 100:
                events.append(self._waiting.get_nowait())
            try:
                await self._write(events)
            finally:
                for _ in events:
                    self._waiting.task_done()

    async def _write(self, events: Sequence[AuditEvent]) -> None:
        try:
            table = self._current_table()
            if table is not None:
                await table.add(events)
        except Exception as error:  # noqa: BLE001 - who was refused is refused in any case; it is reported
            self.dropped += len(events)
            _log.warning("denials cannot be written to the audit log", denials=len(events), error=str(error))
        for event in events:
            await self._tell(event)
            await self._announce(event)

    async def _count_denials(self) -> None:
        while True:
            await asyncio.sleep(min(self._settings.window, 1.0))
            for event in self._denials.ended():
                _log.info("callers were refused", **event["details"], client_ip=event["client_ip"])
                self._put(event)

    async def _sweep(self) -> None:
        await asyncio.sleep(_FIRST_SWEEP_S)
        while True:
            try:
                await self.sweep()
            except Exception as error:  # noqa: BLE001 - it is tried again; it is reported
                _log.warning("old audit events cannot be deleted", error=str(error))
            await asyncio.sleep(_SWEEP_S)

    async def sweep(self) -> int:
        """Delete what is past its retention, and return how many events that were. Runs by itself every hour."""
        table = self._current_table()
        return 0 if table is None else await table.sweep(self._settings.retention, self._settings.most_denials)

    async def _tell(self, event: AuditEvent) -> None:
        contributions = self._app.generation.contributions
        for listener in contributions.audit_event:
            try:
                async with asyncio.timeout(_LISTENER_S):  # whoever hangs holds up no answer, and no denial
                    await within(listener({**event, "details": dict(event["details"])}))
            except BaseException as error:
                if escapes(error):
                    raise  # otherwise: what is told has happened, whoever fails to hear it
                plugin = contributions.blame("audit_event", listener, error)
                name, request_id = event["event"], event["request_id"]
                _log.exception("an audit listener failed", plugin=plugin, audit_event=name, request_id=request_id)

    async def _announce(self, event: AuditEvent) -> None:
        hooks = self._listens_to
        if hooks is None:
            return
        try:
            with contextlib.suppress(NotSupported):  # then there may be some
                if not hooks.has_callbacks(event["event"]):
                    return
            data = {name: event[name] for name in ("user_id", "client_ip", "request_id")}
            await hooks.trigger_hook(event["event"], **data, details=dict(event["details"]))
        except Exception:  # noqa: BLE001 - as for listeners
            _log.exception("a denial could not be announced", audit_event=event["event"])

    async def _hear(self, hooks: HooksManager | None) -> None:
        before, self._listens_to = self._listens_to, hooks
        if before is hooks:
            return
        if before is not None:
            with contextlib.suppress(Base04Error):  # it may have stopped
                await before.unregister_callback(REFRESH_REUSED, self._on_reuse)
        if hooks is not None:
            await hooks.register_callback(REFRESH_REUSED, self._on_reuse)

    async def _on_reuse(self, family: str, user_id: str, **further: Any) -> None:
        await self.record("token.refresh_reused", "denied", family=family, for_user=user_id)


async def _add(table: AuditTable, event: AuditEvent) -> None:
    try:
        await table.add([event])
    except Base04Error as error:
        _log.exception("an audit event cannot be written", **_named(event))
        raise ManagerUnavailable("The audit log cannot be written just now.") from error


def _named(event: AuditEvent) -> dict[str, Any]:
    """Return an event as a log has it, where ``event`` is what the line is about."""
    return {"audit_event" if name == "event" else name: value for name, value in event.items()}
