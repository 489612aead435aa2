"""A command with parameters."""

from __future__ import annotations

from base04_hookspecs.database import DatabaseManager


async def log_in(database: DatabaseManager, name: str, pin: str) -> bool:
    found = await database.execute_query(
        {"find": "users", "filter": {"name": ":name", "pin": ":pin"}, "limit": 1}, {"name": name, "pin": pin}
    )
    return bool(found)
