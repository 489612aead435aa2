"""The tables of the role ``state``, and their rows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, cast

from base04_builtin.state.transitions import EXPIRED
from base04_hookspecs.database import Column, DatabaseManager, Migration, TableSchema
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
    ),
    primary_key=("state_id",),
    indexes=(("state_type",), ("expires_at",)),
)
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
    unique=(("event_id",),),
)


async def _create(database: DatabaseManager) -> None:
    await database.ensure_table(STATES)
    await database.ensure_table(HISTORY)


MIGRATIONS: Final[tuple[Migration, ...]] = (_create,)


def state_of(row: Mapping[str, Any]) -> State:
    """Return the state in a row; one whose time has passed has the status ``expired``."""
    expires_at = row["expires_at"]
    state = cast("State", dict(row))
    if expires_at is not None and expires_at <= time.time():
        state["status"] = EXPIRED
    return state


def change_of(row: Mapping[str, Any]) -> StateChange:
    """Return the history entry in a row."""
    return cast("StateChange", dict(row))
