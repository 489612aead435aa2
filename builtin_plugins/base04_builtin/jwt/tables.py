"""What the provider ``signed`` keeps in the database."""

from __future__ import annotations

from typing import Final

from base04_hookspecs.database import Column, DatabaseManager, TableSchema

FAMILIES: Final = TableSchema(
    name="base04_jwt_families",
    columns=(
        Column("family", "string", nullable=False),
        Column("user_id", "string", nullable=False),
        Column("source", "string"),
        Column("current_jti", "string", nullable=False),
        Column("previous_jti", "string"),
        Column("rotated_at", "timestamp", nullable=False),
        Column("expires_at", "timestamp", nullable=False),
        Column("revoked_at", "timestamp"),
        Column("created_at", "timestamp"),
    ),
    primary_key=("family",),
    indexes=(("user_id",), ("source",), ("expires_at",)),
)
"""One row for each chain of refresh tokens. It holds identifiers, never a token."""

REVOCATIONS: Final = TableSchema(
    name="base04_jwt_revocations",
    columns=(
        Column("entry", "string", nullable=False),
        Column("cutoff", "timestamp"),
        Column("revoked_at", "timestamp", nullable=False),
        Column("expires_at", "timestamp", nullable=False),
    ),
    primary_key=("entry",),
    indexes=(("revoked_at",), ("expires_at",)),
)
"""``entry`` is ``jti:``, ``family:``, ``user:`` or ``source:`` and a value; a ``cutoff`` stops what was issued until
then, none stops everything. A row is of no use after ``expires_at``, when the last token that it stops has ended."""


async def create_tables(database: DatabaseManager) -> None:
    """The first migration."""
    await database.ensure_table(FAMILIES)
    await database.ensure_table(REVOCATIONS)


async def add_family_beginnings(database: DatabaseManager) -> None:
    """The second migration: when a family began, which is not known of those that are there."""
    await database.ensure_table(FAMILIES)


SKEW: Final = 300.0
"""How far the clocks of processes may be apart, and a commit behind its timestamp, for nothing to be overlooked."""

MIGRATIONS: Final = (create_tables, add_family_beginnings)
"""The steps of the stored schema of the role ``jwt``."""


_BATCH: Final = 500
_BATCHES: Final = 40


async def sweep_expired(database: DatabaseManager, table: TableSchema, now: float) -> int:
    """Delete rows whose ``expires_at`` has passed, a bounded number in short transactions; return how many."""
    (key,) = table.primary_key
    swept = 0
    for _ in range(_BATCHES):
        rows = await database.find(table.name, {"expires_at": {"lte": now}}, limit=_BATCH, columns=(key,))
        if rows:
            where = {key: {"in": [row[key] for row in rows]}, "expires_at": {"lte": now}}
            await database.execute_transaction([{"type": "delete", "table": table.name, "where": where}])
        swept += len(rows)
        if len(rows) < _BATCH:
            break
    return swept
