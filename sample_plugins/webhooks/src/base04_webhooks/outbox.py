"""The table of what is still to be delivered."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from base04_hookspecs.database import Column, DatabaseManager, Operation, TableSchema
from base04_hookspecs.errors import Conflict

_OWNER: Final = "webhooks"
_AT_ONCE: Final = 500

TABLE: Final = TableSchema(
    name="webhooks_outbox",
    columns=(
        Column("id", "string", nullable=False),
        Column("endpoint", "string", nullable=False),
        Column("event", "string", nullable=False),
        Column("body", "text", nullable=False),
        Column("status", "string", nullable=False),
        Column("due", "timestamp", nullable=False),
        Column("turn", "integer", nullable=False),
        Column("error", "text"),
    ),
    primary_key=("id",),
    indexes=(("endpoint", "status", "due"), ("status", "due")),
)


async def _create(database: DatabaseManager) -> None:
    await database.ensure_table(TABLE)


class Letter(NamedTuple):
    """A message to one endpoint. ``turn`` grows with each attempt, so that two processes never make the same one."""

    id: str
    endpoint: str
    event: str
    body: str
    turn: int = 0


def new_id() -> str:
    """Return an id that begins with the time, so that its order is that of the events."""
    return f"msg_{time.time_ns():016x}{secrets.token_hex(8)}"


class Outbox:
    """Letters that were written and not delivered yet, for all processes that share the database."""

    def __init__(self, database: DatabaseManager) -> None:
        self._database = database

    async def open(self) -> None:
        """Make the table where it is missing."""
        await self._database.migrate(_OWNER, (_create,))

    async def add(self, letters: Sequence[Letter]) -> None:
        """Write letters, all or none."""
        now = time.time()
        inserts: list[Operation] = [
            {
                "type": "insert",
                "table": TABLE.name,
                "data": {**letter._asdict(), "status": "waiting", "due": now, "error": None},
            }
            for letter in letters
        ]
        await self._database.execute_transaction(inserts)

    async def due(self, endpoint: str, limit: int) -> list[Letter]:
        """Return letters whose turn it is, oldest first."""
        where = {"endpoint": endpoint, "status": "waiting", "due": {"lte": time.time()}}
        rows = await self._database.find(TABLE.name, where, ["due", "id"], limit, columns=Letter._fields)
        return [Letter(**row) for row in rows]

    async def next_due(self, endpoint: str) -> float | None:
        """Return when the next letter is due, None where none waits."""
        where = {"endpoint": endpoint, "status": "waiting"}
        rows = await self._database.find(TABLE.name, where, ["due"], 1, columns=["due"])
        return float(rows[0]["due"]) if rows else None

    async def claim(self, letter: Letter, lease_s: float) -> Letter | None:
        """Take a letter for some seconds, after which others may; None where somebody else was first."""
        claimed = letter._replace(turn=letter.turn + 1)
        try:
            await self._change(letter, {"turn": claimed.turn, "due": time.time() + lease_s})
        except Conflict:
            return None
        return claimed

    async def remove(self, letter: Letter) -> None:
        """Remove a letter that was delivered."""
        await self._database.execute_transaction([{"type": "delete", "table": TABLE.name, "where": {"id": letter.id}}])

    async def put_off(self, letter: Letter, error: str, pause_s: float) -> None:
        """Have a letter tried again after a pause."""
        await self._settle(letter, {"error": error, "due": time.time() + pause_s})

    async def give_up(self, letter: Letter, error: str) -> None:
        """Try a letter no more, unless somebody asks for it."""
        await self._settle(letter, {"error": error, "status": "dead", "due": time.time()})

    async def revive(self, endpoint: str) -> int:
        """Make all letters of an endpoint due, those that were given up included; return how many those are."""
        count = 0
        while rows := await self._database.find(
            TABLE.name, {"endpoint": endpoint, "status": "dead"}, ["id"], _AT_ONCE, columns=["id"]
        ):
            where = {"id": {"in": [row["id"] for row in rows]}}
            await self._update(where, {"status": "waiting", "turn": 0, "due": time.time(), "error": None})
            count += len(rows)
        failed = {"endpoint": endpoint, "status": "waiting", "error": {"ne": None}}
        count += await self._database.count(TABLE.name, failed)
        await self._update(failed, {"due": time.time()})
        return count

    async def count(self, endpoint: str, status: str) -> int:
        """Return how many letters of an endpoint there are."""
        return await self._database.count(TABLE.name, {"endpoint": endpoint, "status": status})

    async def last_error(self, endpoint: str) -> str | None:
        """Return why the newest letter that failed did."""
        where = {"endpoint": endpoint, "error": {"ne": None}}
        rows = await self._database.find(TABLE.name, where, ["-due"], 1, columns=["error"])
        return str(rows[0]["error"]) if rows else None

    async def sweep(self, keep_s: float) -> None:
        """Delete what was given up long ago."""
        where = {"status": "dead", "due": {"lt": time.time() - keep_s}}
        await self._database.execute_transaction([{"type": "delete", "table": TABLE.name, "where": where}])

    async def _settle(self, letter: Letter, data: dict[str, Any]) -> None:
        try:
            await self._change(letter, data)
        except Conflict:
            return  # its lease has run out, and somebody else tries it

    async def _change(self, letter: Letter, data: dict[str, Any]) -> None:
        where = {"id": letter.id, "turn": letter.turn, "status": "waiting"}
        await self._database.execute_transaction(
            [{"type": "update", "table": TABLE.name, "where": where, "data": data, "expect": 1}]
        )

    async def _update(self, where: dict[str, Any], data: dict[str, Any]) -> None:
        await self._database.execute_transaction(
            [{"type": "update", "table": TABLE.name, "where": where, "data": data}]
        )
