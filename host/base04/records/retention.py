"""Changing and deleting many rows that need not change together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from base04_hookspecs.database import DatabaseManager, Operation

_BATCH: Final = 500

AT_ONCE: Final = 100_000
"""How many rows one sweep deletes at most."""


async def delete_oldest(database: DatabaseManager, table: str, where: Mapping[str, Any], most: int) -> int:
    """Delete the rows with the lowest ``id`` that match, in short transactions, and return how many they were."""
    swept = 0
    while swept < most:
        rows = await database.find(table, where, ("id",), min(_BATCH, most - swept), columns=("id",))
        if not rows:
            break
        await carry_out_apart(
            database, [{"type": "delete", "table": table, "where": {"id": row["id"]}} for row in rows]
        )
        swept += len(rows)
    return swept


async def carry_out_apart(database: DatabaseManager, operations: Sequence[Operation]) -> None:
    """Carry out operations on one row each: in one transaction, or one by one where the server has none."""
    together = database.supports_transactions()
    for batch in [operations] if together else [[one] for one in operations]:
        if batch:
            await database.execute_transaction(batch)
