"""Where audit events are kept: one table of the default database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from base04.records.kept_table import KeptTable, PageQuery, dotted, given
from base04.records.time_ids import new_id
from base04_hookspecs.database import Column, Operation, TableSchema
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


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuery(PageQuery):
    """Which events are asked for; None asks for any."""

    event: str | None = None
    outcome: str | None = None
    user_id: str | None = None
    request_id: str | None = None

    def where(self) -> dict[str, Any]:
        """Return the conditions."""
        found = given(event=dotted(self.event), outcome=self.outcome, user_id=self.user_id, request_id=self.request_id)
        return {**found, **PageQuery.where(self)}


class AuditTable(KeptTable):
    """The events of one database."""

    schema = TABLE
    owner = "audit"

    async def add(self, events: Sequence[AuditEvent]) -> None:
        """Store events durably."""
        await self.prepare()
        operations: list[Operation] = [
            {"type": "insert", "table": TABLE.name, "data": {"id": new_id(event["at"]), **_short(event)}}
            for event in events
        ]
        await self.database.execute_transaction(operations)

    async def sweep(self, retention: float, most_denied: int) -> int:
        """Delete what is older than ``retention`` seconds, and the oldest denials beyond a number; return how many."""
        return await self.sweep_older(retention) + await self.sweep_beyond({"outcome": "denied"}, most_denied)


def _short(event: AuditEvent) -> dict[str, Any]:
    """Return an event as a row: what callers chose themselves is cut where it is long."""
    row = dict(event)
    for name in ("user_id", "client_ip", "request_id"):
        value = row[name]
        row[name] = value if value is None else str(value)[:255]
    return row
