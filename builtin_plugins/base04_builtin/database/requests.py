"""What is asked of a connection: data, never a caller's code. Named tuples, because they are made quickly."""

from __future__ import annotations

from typing import Any, NamedTuple

from base04_builtin.database.values import Stored
from base04_hookspecs.database import TableSchema


class Query(NamedTuple):
    """One statement by itself; the result is its rows, or the number of rows it touched.

    ``keyword`` is the first word of a caller's own statement, empty for the manager's.
    """

    sql: str
    params: tuple[Stored, ...] = ()
    keyword: str = ""


class Step(NamedTuple):
    """One operation of a transaction.

    ``otherwise`` is run where it touched no row; ``place`` is for messages; ``single`` says that it can touch one row
    at most. ``table`` is what it changes where that was declared, else empty.
    """

    sql: str
    params: tuple[Stored, ...]
    place: str
    expect: int | None = None
    otherwise: Step | None = None
    single: bool = False
    table: str = ""


class Transaction(NamedTuple):
    """Steps that are all done, or none of them. ``own`` ones are the manager's and may touch its own tables."""

    steps: tuple[Step, ...]
    own: bool = False


class EnsureTable(NamedTuple):
    """A table to create or to bring up to date; the result is its whole schema."""

    table: TableSchema


Request = Query | Transaction | EnsureTable
Rows = list[dict[str, Any]]
