"""From the outbox to the durable callbacks: one process at a time sees which changes are for whom."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from base04_builtin.state.arguments import matches
from base04_builtin.state.relay import Relay
from base04_builtin.state.tables import DELIVERIES, OUTBOX, SUBSCRIPTIONS
from base04_hookspecs.database import DatabaseManager, Operation
from base04_hookspecs.errors import Conflict

_AT_ONCE: Final = 500


class Router:
    """Makes a delivery of each change for each durable callback that it is for.

    Args:
        database: where the outbox is.
        relay: moves on what states carry, where the database has no transactions; None where it has.
    """

    def __init__(self, database: DatabaseManager, relay: Relay | None) -> None:
        self._database, self._relay = database, relay

    async def has_work(self) -> bool:
        """Tell whether there is anything to route."""
        if self._relay is not None:
            return await self._relay.has_work()
        return bool(await self._database.find(OUTBOX.name, limit=1, columns=["event_id"]))

    async def route_some(self) -> int:
        """Route what is there, up to a number, and return how many deliveries that made.

        Events are taken in order of version, so that no change of a state overtakes an earlier one.
        """
        if self._relay is not None:
            return await self._relay.move_some(self.subscriptions)
        events = await self._database.find(OUTBOX.name, None, ["version"], _AT_ONCE)
        found = await self.subscriptions()  # after the events: who subscribed before one of them is among these
        operations: list[Operation] = [
            {"type": "insert", "table": DELIVERIES.name, "data": row}
            for event in events
            for row in deliveries_of(event, event["state_type"], found)
        ]
        made = len(operations)
        ids = [event["event_id"] for event in events]
        operations.append(
            {"type": "delete", "table": OUTBOX.name, "where": {"event_id": {"in": ids}}, "expect": len(ids)}
        )
        try:
            await self._database.execute_transaction(operations)
        except Conflict:  # somebody else took us for dead, and has routed them
            return 0
        return made

    async def subscriptions(self) -> dict[str, str]:
        """Return the pattern of each durable callback, by name."""
        rows = await self._database.find(SUBSCRIPTIONS.name)
        return {row["name"]: row["pattern"] for row in rows}


def deliveries_of(
    event: Mapping[str, Any], state_type: str, subscriptions: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Return the rows of the deliveries that are to be made of a change."""
    now = time.time()
    for name, pattern in subscriptions.items():
        if matches(pattern, state_type, event["state_id"]):
            yield {
                "name": name,
                "state_id": event["state_id"],
                "version": event["version"],
                "event_id": event["event_id"],
                "parked": False,
                "attempts": 0,
                "due": now,
                "error": None,
            }


async def oldest_undelivered(database: DatabaseManager, state_id: str) -> int | None:
    """Return the first version of a state that a durable callback may still want, None where there is none."""
    found: Iterable[dict[str, Any]] = [
        row
        for table in (OUTBOX.name, DELIVERIES.name)  # in the order of their way
        for row in await database.find(table, {"state_id": state_id}, ["version"], 1, columns=["version"])
    ]
    return min((row["version"] for row in found), default=None)
