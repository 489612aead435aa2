"""The tables of the role ``state``, and their rows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, cast

from base04_builtin.state.transitions import EXPIRED
from base04_hookspecs.database import Column, DatabaseManager, Migration, TableSchema, Where
from base04_hookspecs.state import State, StateChange

STATES: Final = TableSchema(
    "base04_states",
    (
        Column("state_id", "string", nullable=False),
        Column("state_type", "string", nullable=False),
        Column("status", "string", nullable=False),
        Column("version", "integer", nullable=False),
        Column("data", "json", nullable=False),
        Column("allowed_transitions", "json"),
        Column("created_at", "timestamp", nullable=False),
        Column("updated_at", "timestamp", nullable=False),
        Column("expires_at", "timestamp"),
        Column("sweep_at", "timestamp"),
    ),
    primary_key=("state_id",),
    indexes=(("state_type",), ("sweep_at",)),
)
"""``sweep_at`` is ``expires_at`` until the expiry is in the history."""

CARRYING_STATES: Final = replace(
    STATES,
    columns=(*STATES.columns, Column("pending", "json"), Column("unshipped", "integer")),
    indexes=(*STATES.indexes, ("unshipped",)),
)
"""States on a database without transactions: each carries the history entries that are not in their table yet."""

HISTORY: Final = TableSchema(
    "base04_state_history",
    (
        Column("state_id", "string", nullable=False),
        Column("version", "integer", nullable=False),
        Column("event_id", "string", nullable=False),
        Column("transition", "string", nullable=False),
        Column("from_status", "string"),
        Column("to_status", "string", nullable=False),
        Column("before", "json"),
        Column("after", "json"),
        Column("actor", "string"),
        Column("request_id", "string"),
        Column("at", "timestamp", nullable=False),
    ),
    primary_key=("state_id", "version"),
)
AGING_HISTORY: Final = replace(HISTORY, indexes=(("at",),))
"""History that is pruned by age."""

OUTBOX: Final = TableSchema(
    "base04_state_outbox",
    (
        Column("event_id", "string", nullable=False),
        Column("state_id", "string", nullable=False),
        Column("version", "integer", nullable=False),
        Column("state_type", "string", nullable=False),
    ),
    primary_key=("event_id",),
    indexes=(("version",),),
)
"""Changes that nobody has looked at yet to see which durable callbacks they are for."""

SUBSCRIPTIONS: Final = TableSchema(
    "base04_state_subscriptions",
    (Column("name", "string", nullable=False), Column("pattern", "string", nullable=False)),
    primary_key=("name",),
)
DELIVERIES: Final = TableSchema(
    "base04_state_deliveries",
    (
        Column("name", "string", nullable=False),
        Column("state_id", "string", nullable=False),
        Column("version", "integer", nullable=False),
        Column("event_id", "string", nullable=False),
        Column("parked", "boolean", nullable=False),
        Column("attempts", "integer", nullable=False),
        Column("due", "timestamp", nullable=False),
        Column("error", "text"),
    ),
    primary_key=("name", "state_id", "version"),
    indexes=(("name", "version"), ("state_id",)),
)
LEASES: Final = TableSchema(
    "base04_state_leases",
    (
        Column("name", "string", nullable=False),
        Column("owner", "string", nullable=False),
        Column("beat", "integer", nullable=False),
    ),
    primary_key=("name",),
)

_AT_ONCE: Final = 500


async def _create(database: DatabaseManager) -> None:
    await database.ensure_table(STATES)
    await database.ensure_table(HISTORY)


async def _add_events_and_expiry(database: DatabaseManager) -> None:
    for table in (STATES, OUTBOX, SUBSCRIPTIONS, DELIVERIES, LEASES):
        await database.ensure_table(table)
    missing = {"expires_at": {"ne": None}, "sweep_at": None, "status": {"ne": EXPIRED}}
    while rows := await database.find(STATES.name, missing, limit=_AT_ONCE, columns=["state_id", "expires_at"]):
        for row in rows:
            where = {"state_id": row["state_id"], "expires_at": row["expires_at"]}
            data = {"sweep_at": row["expires_at"]}
            await database.execute_transaction([{"type": "update", "table": STATES.name, "data": data, "where": where}])


MIGRATIONS: Final[tuple[Migration, ...]] = (_create, _add_events_and_expiry)


async def delete_rows(database: DatabaseManager, table: TableSchema, where: Where) -> None:
    """Delete matching rows; one by one on a database that cannot change several together."""
    if database.supports_transactions():
        await database.execute_transaction([{"type": "delete", "table": table.name, "where": where}])
        return
    while rows := await database.find(table.name, where, limit=_AT_ONCE, columns=table.primary_key):
        for row in rows:
            await database.execute_transaction([{"type": "delete", "table": table.name, "where": row}])


def as_of_now(state: State) -> State:
    """Return a state that was stored as it is now: where its time has passed it has the status ``expired``."""
    expires_at = state["expires_at"]
    if expires_at is not None and expires_at <= time.time():
        state["status"] = EXPIRED
    return state


def change_of(row: Mapping[str, Any]) -> StateChange:
    """Return the history entry in a row."""
    return cast("StateChange", dict(row))
