"""Where executions are kept: one table of the default database."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from base04.records.kept_table import KeptTable, PageQuery, dotted, given
from base04.records.retention import carry_out_apart
from base04_hookspecs.database import Column, Operation, TableSchema
from base04_hookspecs.errors import Conflict

ExecutionStatus = Literal["queued", "running", "succeeded", "failed", "timeout", "cancelled", "interrupted"]
OPEN: Final = ("queued", "running")
FINAL: Final = ("succeeded", "failed", "timeout", "cancelled", "interrupted")

TABLE: Final = TableSchema(
    name="base04_executions",
    columns=(
        Column("id", "string", nullable=False),
        Column("action", "string", nullable=False),
        Column("status", "string", nullable=False),
        Column("mode", "string", nullable=False),
        Column("user_id", "string"),
        Column("api_key_id", "string"),
        Column("client_ip", "string"),
        Column("source", "string"),
        Column("request_id", "string"),
        Column("created_at", "timestamp", nullable=False),
        Column("started_at", "timestamp"),
        Column("finished_at", "timestamp"),
        Column("duration", "float"),
        Column("error", "json"),
        # Of those in the background alone:
        Column("arguments", "text"),
        Column("principal", "json"),
        Column("result", "text"),
        Column("progress", "json"),
        Column("priority", "integer"),
        Column("attempt", "integer"),
        Column("idempotent", "boolean"),
        Column("owner", "string"),
        Column("lease_until", "timestamp"),
        Column("cancel", "boolean"),
        Column("trace", "string"),
    ),
    primary_key=("id",),
    indexes=(("action", "id"), ("user_id", "id"), ("status", "id"), ("request_id",)),
)
"""``id`` begins with the time it was made at, so that its order is that of executions.

``owner`` is the process that queued or performs it, which renews ``lease_until``; once that has passed, another may
take it. ``arguments`` and ``principal`` are there until it has ended. ``trace`` is the ``traceparent`` of the request
that asked for it.
"""

INSIDE: Final = ("arguments", "principal", "owner", "lease_until", "cancel", "idempotent", "trace")
"""What nobody is shown."""

_LISTED: Final = tuple(column.name for column in TABLE.columns if column.name not in (*INSIDE, "result"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionQuery(PageQuery):
    """Which executions are asked for; None asks for any."""

    action: str | None = None
    status: str | None = None
    mode: str | None = None
    user_id: str | None = None
    request_id: str | None = None

    def where(self) -> dict[str, Any]:
        """Return the conditions."""
        found = given(
            action=dotted(self.action),
            status=self.status,
            mode=self.mode,
            user_id=self.user_id,
            request_id=self.request_id,
        )
        return {**found, **PageQuery.where(self)}


class ExecutionTable(KeptTable):
    """The executions of one database; pages are without results."""

    schema = TABLE
    owner = "executions"
    versions = 2
    listed = _LISTED
    sweepable: ClassVar[Mapping[str, Any]] = {"status": {"in": list(FINAL)}}

    async def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store executions durably."""
        await self.prepare()
        await carry_out_apart(self.database, [{"type": "insert", "table": TABLE.name, "data": row} for row in rows])

    async def remove(self, execution_id: str) -> None:
        """Forget an execution that was never begun."""
        where = {"id": execution_id, "status": "queued"}
        await self.database.execute_transaction([{"type": "delete", "table": TABLE.name, "where": where}])

    async def find(self, execution_id: str) -> dict[str, Any] | None:
        """Return all that is kept of one, None where there is none."""
        await self.prepare()
        rows = await self.database.find(TABLE.name, {"id": execution_id}, limit=1)
        return rows[0] if rows else None

    async def change(self, where: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
        """Change the one execution that is as ``where`` says; False where it is not so any more."""
        await self.prepare()
        try:
            return await self.database.execute_transaction([_update(where, data, 1)])
        except Conflict:
            return False

    async def claim(self, execution_id: str, owner: str, lease_s: float) -> dict[str, Any] | None:
        """Begin one that is queued, and return it; None where it is not queued any more."""
        row = await self.find(execution_id)
        if row is None or row["status"] != "queued":
            return None
        now = time.time()
        begun = {"status": "running", "owner": owner, "lease_until": now + lease_s, "started_at": now}
        claimed = await self.change({"id": execution_id, "status": "queued", "attempt": row["attempt"]}, begun)
        return {**row, **begun} if claimed else None

    async def tend(
        self, owner: str, progress: Mapping[str, Mapping[str, Any]], held: Sequence[str], lease_until: float
    ) -> None:
        """Write how far executions of an owner are, and renew the leases of those that it holds."""
        operations = [
            _update({"id": identity, "owner": owner, "status": "running"}, {"progress": value})
            for identity, value in progress.items()
        ]
        operations += [
            _update({"id": identity, "owner": owner, "status": {"in": list(OPEN)}}, {"lease_until": lease_until})
            for identity in held
        ]
        await self.prepare()
        await carry_out_apart(self.database, operations)

    async def owned(self, owner: str) -> dict[str, bool]:
        """Return what an owner runs, and whether each is to be cancelled."""
        await self.prepare()
        where = {"owner": owner, "status": "running"}
        rows = await self.database.find(TABLE.name, where, columns=("id", "cancel"))
        return {row["id"]: bool(row["cancel"]) for row in rows}

    async def abandoned(self, now: float) -> list[dict[str, Any]]:
        """Return some executions that have not ended and whose lease has passed, the oldest first."""
        await self.prepare()
        return await self.database.find(
            TABLE.name, {"status": {"in": list(OPEN)}, "lease_until": {"lt": now}}, ("id",), 100
        )

    async def sweep(self, retention: float, most: int) -> int:
        """Delete what ended and is older than ``retention`` seconds, and the oldest beyond a number; return how many.

        What has not ended stays.
        """
        return await self.sweep_older(retention) + await self.sweep_beyond(self.sweepable, most)


def _update(where: Mapping[str, Any], data: Mapping[str, Any], expect: int | None = None) -> Operation:
    found: Operation = {"type": "update", "table": TABLE.name, "where": where, "data": data}
    if expect is not None:
        found["expect"] = expect
    return found
