"""Tables as PostgreSQL keeps them, the manager's own among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from base04_builtin.database.ddl import CATALOGUE, VERSIONS, Existing, check_case, completed, quoted
from base04_builtin.database.dialects import POSTGRESQL
from base04_builtin.database.postgresql.session import PostgresSession
from base04_builtin.database.schema import dumped, loaded
from base04_hookspecs.database import ColumnType, TableSchema
from base04_hookspecs.errors import ConfigurationError

LOCK_CLASS: Final = 0x62303461
"""The first number of our advisory locks: 'b04a'."""

_DDL_LOCK: Final = 2
_OWN_TABLES: Final = (
    f"CREATE TABLE IF NOT EXISTS {CATALOGUE} (name text PRIMARY KEY, definition text NOT NULL)",
    f"CREATE TABLE IF NOT EXISTS {VERSIONS} (owner text PRIMARY KEY, version bigint NOT NULL)",
)
_COLUMNS: Final = """
    SELECT a.attname AS name, t.typname AS type, coalesce(a.attnum = ANY (i.indkey), false) AS in_key,
           array_position(i.indkey::int2[], a.attnum) AS place
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_catalog.pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
    WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY place, a.attnum
"""
_FITTING: Final[Mapping[ColumnType, frozenset[str]]] = {
    "string": frozenset({"text", "varchar", "bpchar"}),
    "text": frozenset({"text", "varchar", "bpchar"}),
    "integer": frozenset({"int2", "int4", "int8"}),
    "float": frozenset({"float4", "float8"}),
    "boolean": frozenset({"bool"}),
    "json": frozenset({"json", "jsonb"}),
    "timestamp": frozenset({"float8"}),
    "bytes": frozenset({"bytea"}),
}


async def make_own_tables(session: PostgresSession) -> None:
    """Make the manager's own tables where they are missing."""
    deadline = await session.begin()
    [found] = await session.execute(
        "SELECT to_regclass($1) IS NOT NULL AND to_regclass($2) IS NOT NULL AS present", CATALOGUE, VERSIONS
    )
    if not found["present"]:
        await _lock(session)
        for statement in _OWN_TABLES:
            await session.execute(statement)
    await session.commit(deadline)


async def ensure_table(session: PostgresSession, declared: TableSchema) -> TableSchema:
    """Create or complete a table in a transaction of its own, and return its whole schema.

    Raises:
        ConfigurationError: the table exists and contradicts the declaration.
    """
    deadline = await session.begin()
    await _lock(session)
    stored = await _stored(session, declared.name)
    existing = await _existing(session, declared, check=stored is None)
    schema, statements = completed(POSTGRESQL, stored, declared, existing)
    for statement in statements:
        await session.execute(statement)
    if statements:
        await session.execute(
            f"INSERT INTO {CATALOGUE} (name, definition) VALUES ($1, $2) "  # noqa: S608 - a constant
            "ON CONFLICT (name) DO UPDATE SET definition = excluded.definition",
            schema.name,
            dumped(schema),
        )
    await session.commit(deadline)
    return schema


async def _lock(session: PostgresSession) -> None:
    """Let no other process change tables until the transaction ends."""
    await session.execute("SELECT pg_advisory_xact_lock($1::int, $2::int)", LOCK_CLASS, _DDL_LOCK)


async def _stored(session: PostgresSession, name: str) -> TableSchema | None:
    rows = await session.execute(
        f"SELECT name, definition FROM {CATALOGUE} WHERE lower(name) = lower($1)",  # noqa: S608 - a constant
        name,
    )
    if not rows:
        return None
    check_case(name, rows[0]["name"])
    return loaded(rows[0]["definition"])


async def _existing(session: PostgresSession, declared: TableSchema, *, check: bool) -> Existing:
    rows = await session.execute(_COLUMNS, quoted(declared.name))
    if check:
        _check_types(declared, {row["name"]: row["type"] for row in rows})
    return Existing(
        frozenset(row["name"] for row in rows),
        tuple(row["name"] for row in rows if row["in_key"]),
    )


def _check_types(declared: TableSchema, present: Mapping[str, str]) -> None:
    """Check the columns of a table that was made with plain SQL before its first declaration."""
    for column in declared.columns:
        found = present.get(column.name)
        if found is not None and found not in _FITTING[column.type]:
            raise ConfigurationError(
                f"The column {column.name!r} of the existing table {declared.name!r} is of type {found}, and is "
                f"declared as {column.type!r}: that needs one of {', '.join(sorted(_FITTING[column.type]))}."
            )
