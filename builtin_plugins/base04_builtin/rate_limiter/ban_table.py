"""The bans as the database keeps them: the truth about who is banned, until when, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from base04_builtin.rate_limiter.identifiers import Subject
from base04_builtin.rate_limiter.replies import Ban
from base04_hookspecs.database import Column, DatabaseManager, Operation, TableSchema

BANS: Final = TableSchema(
    name="base04_rate_limiter_bans",
    columns=(
        Column("entry", "string", nullable=False),
        Column("limit_type", "string", nullable=False),
        Column("identifier", "text", nullable=False),
        Column("reason", "text", nullable=False),
        Column("automatic", "boolean", nullable=False),
        Column("banned_at", "timestamp", nullable=False),
        Column("expires_at", "timestamp"),
        Column("lifted_at", "timestamp"),
        Column("changed_at", "timestamp", nullable=False),
    ),
    primary_key=("entry",),
    indexes=(("changed_at",), ("expires_at",), ("limit_type", "identifier")),
)
"""One row for each subject that was banned, with its last ban. It stays for a while after it has ended."""

SKEW_S: Final = 300.0
"""How far the clocks of processes may be apart, and a commit behind its timestamp, for nothing to be overlooked."""

_KEPT_S: Final = 7 * 86_400.0
_BATCH: Final = 500


class StoredBan(NamedTuple):
    """A ban of a subject, or, with ``lifted``, that it has none any more."""

    entry: str
    ban: Ban
    lifted: bool
    changed_at: float


class BanTable:
    """Reads and changes the stored bans. Times are seconds since the epoch, on the clock of the ``redis`` role."""

    def __init__(self, database: DatabaseManager) -> None:
        self._database = database

    async def prepare(self) -> None:
        """Bring the stored schema up to date."""
        await self._database.migrate("rate_limiter", (_create_table,))

    async def live(self, now: float, limit: int) -> list[StoredBan]:
        """Return bans that hold: those without end, then the others, the newest first."""
        rows: list[Any] = []
        if not await self._database.count(BANS.name):  # as mostly, and asked faster than the rest is planned
            return []
        for expires in (None, {"gt": now}):
            where = {"lifted_at": None, "expires_at": expires}
            if len(rows) < limit:
                rows += await self._database.find(BANS.name, where, ("-changed_at",), limit - len(rows))
        return [_stored(row) for row in rows]

    async def changed_since(self, moment: float) -> list[StoredBan]:
        """Return what has changed since a moment, in that order."""
        rows = await self._database.find(BANS.name, {"changed_at": {"gte": moment}}, ("changed_at",))
        return [_stored(row) for row in rows]

    async def get(self, entry: str) -> StoredBan | None:
        """Return the last ban of a subject."""
        rows = await self._database.find(BANS.name, {"entry": entry}, limit=1)
        return _stored(rows[0]) if rows else None

    async def put(self, bans: Sequence[tuple[Subject, Ban]], *, automatic: bool) -> None:
        """Store bans, in place of those that the subjects have had."""
        await self._database.execute_transaction([_storing(subject, ban, automatic) for subject, ban in bans])

    async def lift(self, entries: Sequence[str], now: float) -> int:
        """Mark the bans of subjects as lifted and return how many held."""
        lifted = 0
        for expires in ({"gt": now}, None):
            where = {"entry": {"in": list(entries)}, "lifted_at": None, "expires_at": expires}
            rows = await self._database.find(BANS.name, where, columns=("entry",))
            if rows:
                held = {**where, "entry": {"in": [row["entry"] for row in rows]}}
                change: Operation = {
                    "type": "update",
                    "table": BANS.name,
                    "data": {"lifted_at": now, "changed_at": now},
                    "where": held,
                }
                await self._database.execute_transaction([change])
            lifted += len(rows)
        return lifted

    async def sweep(self, now: float) -> int:
        """Delete bans that ended long ago, a bounded number of them, and return how many."""
        swept = 0
        for column in ("expires_at", "lifted_at"):
            ended: dict[str, Any] = {column: {"lt": now - _KEPT_S}}
            rows = await self._database.find(BANS.name, ended, limit=_BATCH, columns=("entry",))
            if rows:
                where = {**ended, "entry": {"in": [row["entry"] for row in rows]}}
                await self._database.execute_transaction([{"type": "delete", "table": BANS.name, "where": where}])
            swept += len(rows)
        return swept


def _stored(row: Mapping[str, Any]) -> StoredBan:
    until = 0 if row["expires_at"] is None else max(1, round(row["expires_at"] * 1000))
    ban = Ban(until, round(row["banned_at"] * 1000), row["reason"])
    return StoredBan(row["entry"], ban, row["lifted_at"] is not None, row["changed_at"])


def _storing(subject: Subject, ban: Ban, automatic: bool) -> Operation:
    since = ban.since_ms / 1000
    identifier = subject.identifier.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    return {
        "type": "upsert",
        "table": BANS.name,
        "where": {"entry": subject.entry},
        "data": {
            "limit_type": subject.limit_type,
            "identifier": identifier,
            "reason": ban.reason,
            "automatic": automatic,
            "banned_at": since,
            "expires_at": ban.until_ms / 1000 if ban.until_ms else None,
            "lifted_at": None,
            "changed_at": since,
        },
    }


async def _create_table(database: DatabaseManager) -> None:
    await database.ensure_table(BANS)
