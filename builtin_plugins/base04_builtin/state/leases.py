"""Leases in the database: one process at a time does something, and another takes over when it falls silent."""

from __future__ import annotations

import asyncio
from typing import Final

from base04_builtin.state.tables import LEASES
from base04_hookspecs.database import DatabaseManager, Operation
from base04_hookspecs.errors import Conflict

_RENEW: Final = 1 / 3


class Lease:
    """Held by whose name is in the row, as long as its beat goes on.

    One whose row has stayed as it is for the whole lease is taken for dead, by the watch of who waits: clocks of
    machines are not compared. A holder stops acting when it has not renewed its lease in time.

    Args:
        database: where the row is.
        name: what it is about.
        owner: a name of this process that nobody else has.
        lease_s: how long a holder may be silent.
    """

    def __init__(self, database: DatabaseManager, name: str, owner: str, lease_s: float) -> None:
        self._database, self._name, self._owner, self._lease_s = database, name, owner, lease_s
        self._until = 0.0
        self._seen: tuple[str, int] | None = None
        self._seen_at = 0.0

    @property
    def held(self) -> bool:
        """Whether this process may act."""
        return _now() < self._until

    async def hold(self) -> bool:
        """Take the lease, or renew it where that is due, and tell whether it is held."""
        began = _now()
        if began < self._until - self._lease_s * (1 - _RENEW):
            return True
        rows = await self._database.find(LEASES.name, {"name": self._name})
        operation = self._claim(rows[0]["owner"], rows[0]["beat"]) if rows else self._first()
        if operation is None:
            self._until = 0.0
            return False
        try:
            await self._database.execute_transaction([operation])
        except Conflict:
            self._until = 0.0
            return False
        self._until = began + self._lease_s
        return self.held

    async def release(self) -> None:
        """Let others take it at once."""
        if self._until:
            self._until = 0.0
            where = {"name": self._name, "owner": self._owner}
            await self._database.execute_transaction([{"type": "delete", "table": LEASES.name, "where": where}])

    def _first(self) -> Operation:
        return {
            "type": "insert",
            "table": LEASES.name,
            "data": {"name": self._name, "owner": self._owner, "beat": 0},
        }

    def _claim(self, owner: str, beat: int) -> Operation | None:
        """Return how to take the lease from who holds it, None where it is theirs."""
        if owner != self._owner:
            now = _now()
            if self._seen != (owner, beat):
                self._seen, self._seen_at = (owner, beat), now
            if now - self._seen_at < self._lease_s:
                return None
        return {
            "type": "update",
            "table": LEASES.name,
            "data": {"owner": self._owner, "beat": beat + 1},
            "where": {"name": self._name, "owner": owner, "beat": beat},
            "expect": 1,
        }


def _now() -> float:
    return asyncio.get_running_loop().time()
