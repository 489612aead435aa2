"""Where audit events are kept: one table of the default database."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from base04.retention import AT_ONCE, delete_oldest
from base04.time_ids import moment, new_id
from base04_hookspecs.database import Column, DatabaseManager, Operation, TableSchema
from base04_hookspecs.host_hooks import AuditEvent

TABLE: Final = TableSchema(
    name="base04_audit",
    columns=(
        Column("id", "string", nullable=False),
        Column("at", "timestamp", nullable=False),
        Column("event", "string", nullable=False),
        Column("outcome", "string", nullable=False),
        Column("user_id", "string"),
        Column("client_ip", "string"),
        Column("request_id", "string"),
        Column("details", "json", nullable=False),
    ),
    primary_key=("id",),
    indexes=(("event", "id"), ("user_id", "id"), ("request_id",), ("outcome", "id")),
)
"""``id`` begins with the time, in hexadecimal digits, so that its order is that of the events."""


async def _create_table(database: DatabaseManager) -> None:
    """The first migration."""
    await database.ensure_table(TABLE)


_MIGRATIONS: Final = (_create_table,)


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which events are asked for; None asks for any. ``before`` is the id of the last one of the page before."""

    event: str | None = None
    outcome: str | None = None
    user_id: str | None = None
    request_id: str | None = None
    since: float | None = None
    until: float | None = None
    before: str | None = None
    limit: int = 100

    def where(self) -> dict[str, Any]:
        """Return the conditions; times are those of ids, which have an index."""
        named = ("event", "outcome", "user_id", "request_id")
        found: dict[str, Any] = {name: value for name in named if (value := getattr(self, name)) is not None}
        if self.event is not None and self.event.endswith(".*"):
            found["event"] = {"prefix": self.event[:-1]}
        ends = [end for end in (self.before, None if self.until is None else moment(self.until)) if end is not None]
        bounds: dict[str, str] = {"lt": min(ends)} if ends else {}
        if self.since is not None:
            bounds["gte"] = moment(self.since)
        return {**found, **({"id": bounds} if bounds else {})}


class AuditTable:
    """The events of one database."""

    def __init__(self, database: DatabaseManager) -> None:
        self.database = database
        self._there = False

    async def prepare(self) -> None:
        """Make the table where it is missing; once."""
        if not self._there:
            await self.database.migrate("audit", _MIGRATIONS)
            self._there = True

    async def add(self, events: Sequence[AuditEvent]) -> None:
        """Store events durably."""
        await self.prepare()
        operations: list[Operation] = [
            {"type": "insert", "table": TABLE.name, "data": {"id": new_id(event["at"]), **_short(event)}}
            for event in events
        ]
        await self.database.execute_transaction(operations)

    async def page(self, query: AuditQuery) -> tuple[list[dict[str, Any]], str | None]:
        """Return events, newest first, and the id to go on ``before``, None where there are no more."""
        await self.prepare()
        rows = await self.database.find(TABLE.name, query.where(), ("-id",), query.limit + 1)
        more = len(rows) > query.limit
        rows = rows[: query.limit]
        return rows, rows[-1]["id"] if more and rows else None

    async def sweep(self, retention: float, most_denied: int) -> int:
        """Delete what is older than ``retention`` seconds, and the oldest denials beyond a number; return how many."""
        await self.prepare()
        swept = await delete_oldest(self.database, TABLE.name, {"id": {"lt": moment(time.time() - retention)}}, AT_ONCE)
        denied = {"outcome": "denied"}
        beyond = await self.database.count(TABLE.name, denied) - most_denied
        return swept + (await delete_oldest(self.database, TABLE.name, denied, beyond) if beyond > 0 else 0)


def _short(event: AuditEvent) -> dict[str, Any]:
    """Return an event as a row: what callers chose themselves is cut where it is long."""
    row = dict(event)
    for name in ("user_id", "client_ip", "request_id"):
        value = row[name]
        row[name] = value if value is None else str(value)[:255]
    return row
