"""The dialects of SQL that the built-in providers speak, and what differs between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from base04_hookspecs.database import ColumnType


@dataclass(frozen=True, slots=True, eq=False)
class Dialect:
    """What the portable modules have to know about one dialect.

    Args:
        name: what SQLAlchemy calls it.
        types: the type of the column for each portable type.
        unlimited: what ``LIMIT`` takes where there is no limit.
        numbered: whether placeholders are ``$1``, ``$2`` ... rather than ``?``.
        typed: whether values come back in the types of their columns.
    """

    name: Literal["sqlite", "postgresql"]
    types: Mapping[ColumnType, str]
    unlimited: int | None
    numbered: bool
    typed: bool


SQLITE: Final = Dialect(
    "sqlite",
    {
        "string": "TEXT",
        "text": "TEXT",
        "integer": "INTEGER",
        "float": "REAL",
        "boolean": "BOOLEAN",
        "json": "TEXT",
        "timestamp": "REAL",
        "bytes": "BLOB",
    },
    unlimited=-1,
    numbered=False,
    typed=False,
)
POSTGRESQL: Final = Dialect(
    "postgresql",
    {
        "string": 'text COLLATE "C"',  # compared by code point, as everywhere else
        "text": 'text COLLATE "C"',
        "integer": "bigint",
        "float": "double precision",
        "boolean": "boolean",
        "json": "jsonb",
        "timestamp": "double precision",
        "bytes": "bytea",
    },
    unlimited=None,
    numbered=True,
    typed=True,
)
