"""Tables as SQLite keeps them, and the catalogue that remembers how they were declared."""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from base04_builtin.database.ddl import CATALOGUE, VERSIONS, Existing, check_case, completed, quoted
from base04_builtin.database.dialects import SQLITE
from base04_builtin.database.schema import dumped, loaded
from base04_hookspecs.database import TableSchema

OWN_TABLES: Final = (
    f"CREATE TABLE IF NOT EXISTS {CATALOGUE} (name TEXT PRIMARY KEY, definition TEXT NOT NULL) WITHOUT ROWID",
    f"CREATE TABLE IF NOT EXISTS {VERSIONS} (owner TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID",
)


def ensure_table(connection: sqlite3.Connection, declared: TableSchema) -> TableSchema:
    """Create or complete a table inside the open transaction, and return its whole schema.

    Raises:
        ConfigurationError: the table exists and contradicts the declaration.
    """
    stored = _stored(connection, declared.name)
    schema, statements = completed(SQLITE, stored, declared, _existing(connection, declared.name))
    for statement in statements:
        connection.execute(statement)
    if statements:
        connection.execute(
            f"INSERT INTO {CATALOGUE} (name, definition) VALUES (?, ?) "  # noqa: S608 - a constant
            "ON CONFLICT (name) DO UPDATE SET definition = excluded.definition",
            (schema.name, dumped(schema)),
        )
    return schema


def _stored(connection: sqlite3.Connection, name: str) -> TableSchema | None:
    row: Any = connection.execute(
        f"SELECT name, definition FROM {CATALOGUE} WHERE name = ? COLLATE NOCASE",  # noqa: S608 - a constant
        (name,),
    ).fetchone()
    if row is None:
        return None
    check_case(name, row[0])
    return loaded(row[1])


def _existing(connection: sqlite3.Connection, name: str) -> Existing:
    rows = connection.execute(f"PRAGMA table_info({quoted(name)})").fetchall()
    keys = sorted((row[5], row[1]) for row in rows if row[5])
    return Existing(frozenset(row[1] for row in rows), tuple(column for _, column in keys))
