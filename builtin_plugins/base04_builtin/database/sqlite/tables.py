"""Tables as SQLite keeps them, and the catalogue that remembers how they were declared."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from typing import Any, Final

from base04_builtin.database.schema import dumped, loaded, merged
from base04_hookspecs.database import Column, TableSchema
from base04_hookspecs.errors import ConfigurationError

OWN_PREFIX: Final = "_base04_"
CATALOGUE: Final = f"{OWN_PREFIX}tables"
VERSIONS: Final = f"{OWN_PREFIX}versions"
OWN_TABLES: Final = (
    f"CREATE TABLE IF NOT EXISTS {CATALOGUE} (name TEXT PRIMARY KEY, definition TEXT NOT NULL) WITHOUT ROWID",
    f"CREATE TABLE IF NOT EXISTS {VERSIONS} (owner TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID",
)
_TYPES: Final = {
    "string": "TEXT",
    "text": "TEXT",
    "integer": "INTEGER",
    "float": "REAL",
    "boolean": "BOOLEAN",
    "json": "TEXT",
    "timestamp": "REAL",
    "bytes": "BLOB",
}


def ensure_table(connection: sqlite3.Connection, declared: TableSchema) -> TableSchema:
    """Create or complete a table inside the open transaction, and return its whole schema.

    Raises:
        ConfigurationError: the table exists and contradicts the declaration.
    """
    stored = _stored(connection, declared.name)
    schema = merged(stored, declared)
    present = {row[1] for row in connection.execute(f"PRAGMA table_info({_quoted(schema.name)})")}
    if schema == stored and present.issuperset(column.name for column in schema.columns):
        return schema
    if not present:
        connection.execute(_create_table(schema))
    elif stored is None:
        _adopt(schema, present)
    for column in schema.columns:
        if present and column.name not in present:
            connection.execute(f"ALTER TABLE {_quoted(schema.name)} ADD COLUMN {_column(column)}")
    for statement in _indexes(schema):
        connection.execute(statement)
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
    if row[0] != name:
        raise ConfigurationError(
            f"The table {name!r} differs only in case from the existing table {row[0]!r}, which SQLite takes for the "
            "same: choose another name."
        )
    return loaded(row[1])


def _adopt(schema: TableSchema, present: set[str]) -> None:
    """Check a table that was made with plain SQL before its first declaration."""
    missing = [column.name for column in schema.columns if column.name not in present and not column.nullable]
    if missing:
        raise ConfigurationError(
            f"The table {schema.name!r} exists without the columns {', '.join(missing)}, which are not nullable: "
            "declare them nullable, or choose another table."
        )


def _create_table(schema: TableSchema) -> str:
    parts = [_column(column) for column in schema.columns]
    parts.append(f"PRIMARY KEY ({_list(schema.primary_key)})")
    return f"CREATE TABLE {_quoted(schema.name)} ({', '.join(parts)})"


def _indexes(schema: TableSchema) -> Iterator[str]:
    for prefix, kind, keys in (("uq", "UNIQUE INDEX", schema.unique), ("ix", "INDEX", schema.indexes)):
        for key in keys:
            name = _index_name(prefix, schema.name, key)
            yield f"CREATE {kind} IF NOT EXISTS {_quoted(name)} ON {_quoted(schema.name)} ({_list(key)})"


def _index_name(prefix: str, table: str, key: tuple[str, ...]) -> str:
    digest = hashlib.blake2s("\0".join((table, *key)).encode(), digest_size=6).hexdigest()
    return f"{prefix}_{table}_{digest}"


def _column(column: Column) -> str:
    return f"{_quoted(column.name)} {_TYPES[column.type]}{'' if column.nullable else ' NOT NULL'}"


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(_quoted(name) for name in names)


def _quoted(name: str) -> str:
    """Quote a name that has been validated: it holds no quotation mark."""
    return f'"{name}"'
