"""Keys as the database keeps them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from base04_hookspecs.api_key import ApiKeyInfo
from base04_hookspecs.database import Column, DatabaseManager, Operation, TableSchema, Where
from base04_hookspecs.errors import Conflict, ExpiredApiKey, InvalidApiKey, RevokedApiKey

_BATCH: Final = 200
_ATTEMPTS: Final = 6
_PAUSE: Final = 0.01

KEYS: Final = TableSchema(
    name="base04_api_keys",
    columns=(
        Column("key_id", "string", nullable=False),
        Column("digest", "string", nullable=False),
        Column("user_id", "string", nullable=False),
        Column("name", "text", nullable=False),
        Column("permissions", "json", nullable=False),
        Column("rate_limit", "string"),
        Column("created_at", "timestamp", nullable=False),
        Column("expires_at", "timestamp"),
        Column("revoked_at", "timestamp"),
        Column("last_used_at", "timestamp"),
        Column("replaced_by", "string"),
        Column("use_count", "integer"),
    ),
    primary_key=("key_id",),
    indexes=(("user_id", "created_at"), ("created_at",)),
)
"""``digest`` is a keyed hash of the whole key; ``replaced_by`` the id of the key that this one was rolled to."""


class Uses(NamedTuple):
    """How often a key was used, and when last."""

    times: int
    last: float

    def joined(self, other: Uses) -> Uses:
        """Return both together."""
        return Uses(self.times + other.times, max(self.last, other.last))


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key. ``use_count`` is None where it was made before uses were counted, and was not used since."""

    key_id: str
    digest: str
    user_id: str
    name: str
    permissions: tuple[str, ...]
    rate_limit: str | None
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None
    replaced_by: str | None = None
    use_count: int | None = 0

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> KeyRecord:
        """Read a row."""
        return cls(**{**row, "permissions": tuple(row["permissions"])})

    def __repr__(self) -> str:
        return f"<KeyRecord key_id={self.key_id!r} user_id={self.user_id!r}>"

    def fault_at(self, now: float) -> InvalidApiKey | None:
        """Return why the key is not valid at a time, None if it is."""
        if self.revoked_at is not None:
            return RevokedApiKey(f"it is revoked (key id {self.key_id})")
        if self.expires_at is not None and self.expires_at <= now:
            return ExpiredApiKey(f"it has expired (key id {self.key_id})")
        return None

    def used(self, uses: Uses | None) -> KeyRecord:
        """Return the record with further uses."""
        if uses is None:
            return self
        known = Uses(self.use_count or 0, uses.last if self.last_used_at is None else self.last_used_at)
        count, last = known.joined(uses)
        return replace(self, use_count=count, last_used_at=last)

    def row(self) -> dict[str, Any]:
        """Return what is stored."""
        return {name: getattr(self, name) for name in KeyRecord.__slots__} | {"permissions": list(self.permissions)}

    def info(self) -> ApiKeyInfo:
        """Return what may be shown."""
        return {
            "key_id": self.key_id,
            "user_id": self.user_id,
            "name": self.name,
            "permissions": list(self.permissions),
            "rate_limit": self.rate_limit,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "revoked_at": self.revoked_at,
            "last_used_at": self.last_used_at,
            "use_count": self.use_count or 0,
        }


class KeyTable:
    """Reads and changes the stored keys."""

    def __init__(self, database: DatabaseManager) -> None:
        self._database = database

    async def prepare(self) -> None:
        """Bring the stored schema up to date."""
        await self._database.migrate("api_key", (_create_table, _add_use_counts))

    async def get(self, key_id: str) -> KeyRecord | None:
        """Return a key, None where there is none."""
        rows = await self._database.find(KEYS.name, {"key_id": key_id}, limit=1, columns=KeyRecord.__slots__)
        return KeyRecord.of(rows[0]) if rows else None

    async def page(self, where: Where, limit: int, offset: int) -> list[KeyRecord]:
        """Return keys, newest first."""
        order = ("-created_at", "-key_id")
        rows = await self._database.find(KEYS.name, where, order, limit, offset=offset, columns=KeyRecord.__slots__)
        return [KeyRecord.of(row) for row in rows]

    async def insert(self, record: KeyRecord) -> None:
        """Store a new key."""
        await self._database.execute_transaction([_inserting(record)])

    async def change(self, where: Where, change: Mapping[str, Any]) -> bool:
        """Change the one key that meets the conditions; False where none does."""
        try:
            return await self._database.execute_transaction([_updating(where, change)])
        except Conflict:
            return False

    async def replace(self, old: KeyRecord, change: Mapping[str, Any], new: KeyRecord) -> bool:
        """Change a key that is still as it was, and store the one that takes its place; False where it has changed."""
        where = {"key_id": old.key_id, "revoked_at": None, "replaced_by": None}
        marked = {**change, "replaced_by": new.key_id}
        try:
            return await self._database.execute_transaction([_updating(where, marked), _inserting(new)])
        except Conflict:
            return False

    @property
    def batch_size(self) -> int:
        """For how many keys uses are added in one step that is done or not."""
        return _BATCH if self._database.supports_transactions() else 1

    async def add_uses(self, uses: Mapping[str, Uses]) -> None:
        """Add uses to what is stored of keys, at most ``batch_size``.

        Raises:
            Conflict: other processes keep adding to them; nothing was done.
        """
        for attempt in range(_ATTEMPTS):
            columns, where = ("key_id", "use_count", "last_used_at"), {"key_id": {"in": list(uses)}}
            rows = await self._database.find(KEYS.name, where, ("key_id",), columns=columns)  # in one order for all
            additions = [_adding(row, uses[row["key_id"]]) for row in rows]
            try:
                if additions:
                    await self._database.execute_transaction(additions)
                return
            except Conflict:
                await asyncio.sleep(random.uniform(0, _PAUSE * 2**attempt))  # noqa: S311  # it protects nothing
        raise Conflict("Other processes keep counting uses of the same API keys.")

    async def answers(self) -> bool:
        """Tell whether the database answers."""
        return await self._database.check_connection()


async def _create_table(database: DatabaseManager) -> None:
    await database.ensure_table(KEYS)


async def _add_use_counts(database: DatabaseManager) -> None:
    await database.ensure_table(KEYS)


def _inserting(record: KeyRecord) -> Operation:
    return {"type": "insert", "table": KEYS.name, "data": record.row()}


def _adding(row: Mapping[str, Any], uses: Uses) -> Operation:
    count, last = row["use_count"], row["last_used_at"]
    change = {
        "use_count": (count or 0) + uses.times,
        "last_used_at": uses.last if last is None else max(last, uses.last),
    }
    return _updating({"key_id": row["key_id"], "use_count": count}, change)


def _updating(where: Where, change: Mapping[str, Any]) -> Operation:
    return {"type": "update", "table": KEYS.name, "data": change, "where": where, "expect": 1}
