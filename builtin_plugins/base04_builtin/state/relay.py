"""Where the database has no transactions: moving on the history entries and events that states carry.

Each step may be done twice, and a process may die after each: the next begins again with what the state still carries.
What the history holds of a state has been moved on as a whole, and all before it, because entries are moved in order
and the deliveries of each are made first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from base04_builtin.state.tables import DELIVERIES, HISTORY, STATES
from base04_builtin.state.transitions import DELETED
from base04_hookspecs.database import DatabaseManager, Operation
from base04_hookspecs.errors import Conflict

_AT_ONCE: Final = 100

Deliveries = Callable[[Mapping[str, Any], str, Mapping[str, str]], Any]
Subscriptions = Callable[[], Awaitable[dict[str, str]]]


class Relay:
    """Moves on what states carry. One process at a time does so, which keeps deliveries in order.

    Args:
        database: where states are.
        deliveries: returns the rows of the deliveries of a change.
    """

    def __init__(self, database: DatabaseManager, deliveries: Deliveries) -> None:
        self._database, self._deliveries = database, deliveries

    async def has_work(self) -> bool:
        """Tell whether any state carries anything."""
        return bool(await self._database.find(STATES.name, {"unshipped": 1}, limit=1, columns=["state_id"]))

    async def move_some(self, subscriptions: Subscriptions) -> int:
        """Move on what some states carry, and return how many deliveries that made."""
        made = 0
        rows = await self._database.find(STATES.name, {"unshipped": 1}, limit=_AT_ONCE)
        found = await subscriptions()
        for row in rows:
            moved = await self._last_moved(row["state_id"])
            for carried in row["pending"] or ():
                if carried["change"]["version"] > moved:
                    made += await self._move(carried["change"], carried["state_type"], found)
            await self._unload(row)
        return made

    async def _last_moved(self, state_id: str) -> int:
        rows = await self._database.find(HISTORY.name, {"state_id": state_id}, ["-version"], 1, columns=["version"])
        return rows[0]["version"] if rows else 0

    async def _move(self, change: dict[str, Any], state_type: str, subscriptions: Mapping[str, str]) -> int:
        rows = list(self._deliveries(change, state_type, subscriptions))
        for row in rows:
            await self._insert(DELIVERIES.name, row)
        await self._insert(HISTORY.name, change)
        return len(rows)

    async def _insert(self, table: str, row: dict[str, Any]) -> None:
        try:
            await self._database.execute_transaction([{"type": "insert", "table": table, "data": row}])
        except Conflict:  # it was inserted before somebody died
            return

    async def _unload(self, row: dict[str, Any]) -> None:
        """Take the entries out of a state, or remove one that was deleted, unless it has changed meanwhile."""
        where = {"state_id": row["state_id"], "version": row["version"]}
        operation: Operation
        if row["status"] == DELETED:
            operation = {"type": "delete", "table": STATES.name, "where": where}
        else:
            data = {"pending": None, "unshipped": None}
            operation = {"type": "update", "table": STATES.name, "data": data, "where": where}
        await self._database.execute_transaction([operation])
