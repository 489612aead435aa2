"""Schemas of tables: checked, merged, and as the text that a catalogue keeps."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, Final, get_args

import orjson

from base04_builtin.database.names import check_name, check_table
from base04_hookspecs.database import Column, ColumnType, TableSchema
from base04_hookspecs.errors import ConfigurationError, InvalidInput

_TYPES: Final = frozenset(get_args(ColumnType))


def check_schema(table: TableSchema) -> TableSchema:
    """Return a schema that can be made, its key columns not nullable.

    Raises:
        InvalidInput: a name, a type or a key is not usable.
    """
    check_table(table.name)
    names = [check_name(column.name, "column") for column in table.columns]
    if len({name.lower() for name in names}) != len(names):
        raise InvalidInput(f"The table {table.name!r} has two columns of one name: {', '.join(names)}.")
    for column in table.columns:
        if column.type not in _TYPES:
            raise InvalidInput(f"The column type {column.type!r} is unknown: there are {', '.join(sorted(_TYPES))}.")
    for key in (table.primary_key, *table.unique, *table.indexes):
        unknown = [name for name in key if name not in names]
        if unknown or not key:
            raise InvalidInput(f"A key of the table {table.name!r} is {key!r}: it must name columns of the table.")
    columns = tuple(replace(c, nullable=c.nullable and c.name not in table.primary_key) for c in table.columns)
    return replace(table, columns=columns)


def merged(stored: TableSchema | None, declared: TableSchema) -> TableSchema:
    """Return what a table has once a declaration was added to it.

    Raises:
        ConfigurationError: the two contradict each other.
    """
    if stored is None:
        return declared
    known = {column.name: column for column in stored.columns}
    for column in declared.columns:
        there = known.get(column.name)
        if there is None and not column.nullable:
            raise ConfigurationError(
                f"The column {column.name!r} cannot be added to the existing table {declared.name!r}, because it is "
                "not nullable: declare it nullable, and fill it in a migration."
            )
        if there is not None and there.type != column.type:
            raise ConfigurationError(
                f"The column {column.name!r} of the table {declared.name!r} is of type {there.type!r} and is now "
                f"declared as {column.type!r}: add a column of another name, and copy the values in a migration."
            )
    if stored.primary_key != declared.primary_key:
        raise ConfigurationError(
            f"The table {declared.name!r} has the primary key {stored.primary_key} and is now declared with "
            f"{declared.primary_key}: a primary key cannot change."
        )
    added = tuple(column for column in declared.columns if column.name not in known)
    return replace(
        stored,
        columns=stored.columns + added,
        unique=_union(stored.unique, declared.unique),
        indexes=_union(stored.indexes, declared.indexes),
    )


def dumped(table: TableSchema) -> str:
    """Return the schema as JSON text."""
    return orjson.dumps(asdict(table)).decode()


def loaded(text: str) -> TableSchema:
    """Return the schema that ``dumped`` wrote."""
    raw: dict[str, Any] = orjson.loads(text)
    return TableSchema(
        name=raw["name"],
        columns=tuple(Column(**column) for column in raw["columns"]),
        primary_key=tuple(raw["primary_key"]),
        unique=tuple(map(tuple, raw["unique"])),
        indexes=tuple(map(tuple, raw["indexes"])),
    )


def _union(first: tuple[tuple[str, ...], ...], second: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    return first + tuple(key for key in second if key not in first)
