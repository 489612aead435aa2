"""Deleting the oldest rows of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from base04_hookspecs.database import DatabaseManager

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
        ids = [row["id"] for row in rows]
        await database.execute_transaction([{"type": "delete", "table": table, "where": {"id": {"in": ids}}}])
        swept += len(rows)
    return swept
