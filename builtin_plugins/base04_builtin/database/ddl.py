"""The statements that create or complete a table, and the manager's own tables, for SQL databases."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from base04_builtin.database.dialects import Dialect
from base04_builtin.database.schema import merged
from base04_hookspecs.database import Column, TableSchema
from base04_hookspecs.errors import ConfigurationError

OWN_PREFIX: Final = "_base04_"
CATALOGUE: Final = f"{OWN_PREFIX}tables"
VERSIONS: Final = f"{OWN_PREFIX}versions"
_LONGEST: Final = 63 - len("ix__") - 12


@dataclass(frozen=True, slots=True)
class Existing:
    """A table as the database has it: its columns (none: there is no such table) and its primary key."""

    columns: frozenset[str]
    primary_key: tuple[str, ...]


def completed(
    dialect: Dialect, stored: TableSchema | None, declared: TableSchema, existing: Existing
) -> tuple[TableSchema, list[str]]:
    """Return the whole schema of a table and the statements that bring it there; none where it is there.

    Args:
        dialect: the dialect of the statements.
        stored: how the table was declared before, None for the first time.
        declared: how it is declared now.
        existing: what the database has.

    Raises:
        ConfigurationError: the declaration contradicts what is there.
    """
    schema = merged(stored, declared)
    present = existing.columns
    if schema == stored and present.issuperset(column.name for column in schema.columns):
        return schema, []
    if not present:
        return schema, [_create_table(dialect, schema), *_indexes(dialect, schema, schema.unique)]
    unique = schema.unique
    if stored is None:
        _adopt(schema, present)
        if existing.primary_key != schema.primary_key:
            unique = (schema.primary_key, *unique)
    added = [column for column in schema.columns if column.name not in present]
    statements = [f"ALTER TABLE {quoted(schema.name)} ADD COLUMN {_column(dialect, column)}" for column in added]
    return schema, [*statements, *_indexes(dialect, schema, unique)]


def check_case(name: str, known: str) -> None:
    """Refuse a name that differs from a known table's only in case, which not every database tells apart.

    Raises:
        ConfigurationError: it does.
    """
    if name != known:
        raise ConfigurationError(
            f"The table {name!r} differs only in case from the existing table {known!r}, which some databases take "
            "for the same: choose another name."
        )


def quoted(name: str) -> str:
    """Quote a name that has been validated: it holds no quotation mark."""
    return f'"{name}"'


def _adopt(schema: TableSchema, present: frozenset[str]) -> None:
    """Check a table that was made with plain SQL before its first declaration."""
    missing = [column.name for column in schema.columns if column.name not in present and not column.nullable]
    if missing:
        raise ConfigurationError(
            f"The table {schema.name!r} exists without the columns {', '.join(missing)}, which are not nullable: "
            "declare them nullable, or choose another table."
        )


def _create_table(dialect: Dialect, schema: TableSchema) -> str:
    parts = [_column(dialect, column) for column in schema.columns]
    parts.append(f"PRIMARY KEY ({', '.join(map(quoted, schema.primary_key))})")
    return f"CREATE TABLE {quoted(schema.name)} ({', '.join(parts)})"


def _indexes(dialect: Dialect, schema: TableSchema, unique: tuple[tuple[str, ...], ...]) -> Iterator[str]:
    nullable = {column.name for column in schema.columns if column.nullable}
    for prefix, kind, keys in (("uq", "UNIQUE INDEX", unique), ("ix", "INDEX", schema.indexes)):
        for key in keys:
            name = _index_name(prefix, schema.name, key)
            columns = ", ".join(quoted(column) + _nulls(dialect, column in nullable) for column in key)
            yield f"CREATE {kind} IF NOT EXISTS {quoted(name)} ON {quoted(schema.name)} ({columns})"


def _nulls(dialect: Dialect, nullable: bool) -> str:
    """Keep nulls where ``statements.select`` orders them, so that the index serves the order."""
    return " NULLS FIRST" if nullable and dialect.name == "postgresql" else ""


def _index_name(prefix: str, table: str, key: tuple[str, ...]) -> str:
    digest = hashlib.blake2s("\0".join((table, *key)).encode(), digest_size=6).hexdigest()
    return f"{prefix}_{table[:_LONGEST]}_{digest}"


def _column(dialect: Dialect, column: Column) -> str:
    return f"{quoted(column.name)} {dialect.types[column.type]}{'' if column.nullable else ' NOT NULL'}"
