"""Statements of the portable core for SQL databases, built and compiled by SQLAlchemy Core.

Compiling takes longer than running a small statement, so statements are compiled once for each shape (table, columns,
operators) and kept; only values differ. This module imports SQLAlchemy: load it late.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql import ClauseElement, ColumnElement, quoted_name

from base04_builtin.database.compiling import Compiled, Order, Shape
from base04_builtin.database.dialects import Dialect

_INSERT: Final[dict[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_COMPILERS: Final[dict[str, sa.Dialect]] = {
    "sqlite": sqlite.dialect(paramstyle="qmark"),
    "postgresql": postgresql.dialect(paramstyle="numeric_dollar"),  # type: ignore[no-untyped-call]  # as it is there
}


@lru_cache(maxsize=1024)
def insert(dialect: Dialect, table: str, columns: tuple[str, ...], unless: tuple[str, ...] = ()) -> Compiled:
    """Insert a row of the values, in order of the columns; do nothing where the key ``unless`` is taken."""
    target = _table(table, columns)
    statement = _INSERT[dialect.name](target).values({target.c[name]: _value(i) for i, name in enumerate(columns)})
    if unless:
        statement = statement.on_conflict_do_nothing(index_elements=[target.c[name] for name in unless])
    return _compiled(dialect, statement)


@lru_cache(maxsize=1024)
def update(dialect: Dialect, table: str, columns: tuple[str, ...], shape: Shape) -> Compiled:
    """Set columns where conditions hold: values of the columns first, then those of the conditions."""
    target = _table(table, (*columns, *(column for column, _, _ in shape)))
    statement = sa.update(target).values({target.c[name]: _value(i) for i, name in enumerate(columns)})
    return _compiled(dialect, statement.where(*_where(dialect, target, shape, len(columns))))


@lru_cache(maxsize=1024)
def delete(dialect: Dialect, table: str, shape: Shape) -> Compiled:
    """Delete where conditions hold."""
    target = _table(table, tuple(column for column, _, _ in shape))
    return _compiled(dialect, sa.delete(target).where(*_where(dialect, target, shape, 0)))


@lru_cache(maxsize=1024)
def select(
    dialect: Dialect, table: str, columns: tuple[str, ...] | None, shape: Shape, order: Order, *, limited: bool
) -> Compiled:
    """Select columns, or all, where conditions hold.

    Where it is ``limited``, the last two values are the limit and the offset; they are left out elsewhere, because
    PostgreSQL plans a statement with them anew each time.
    """
    target = _table(table, (*(columns or ()), *(column for column, _, _ in shape), *(column for column, _, _ in order)))
    wanted = [sa.literal_column("*")] if columns is None else [target.c[name] for name in columns]
    statement = (
        sa.select(*wanted)
        .select_from(target)
        .where(*_where(dialect, target, shape, 0))
        .order_by(*(_ordered(dialect, target.c[name], down, nullable) for name, down, nullable in order))
    )
    if limited:
        count = sum(arity for _, _, arity in shape)
        statement = statement.limit(_value(count)).offset(_value(count + 1))
    return _compiled(dialect, statement)


@lru_cache(maxsize=1024)
def count(dialect: Dialect, table: str, shape: Shape) -> Compiled:
    """Count where conditions hold; the column is called ``n``."""
    target = _table(table, tuple(column for column, _, _ in shape))
    return _compiled(
        dialect, sa.select(sa.func.count().label("n")).select_from(target).where(*_where(dialect, target, shape, 0))
    )


def _table(name: str, columns: tuple[str, ...]) -> sa.TableClause:
    unique = dict.fromkeys(columns)
    return sa.table(quoted_name(name, True), *(sa.column(quoted_name(column, True)) for column in unique))


def _value(index: int) -> sa.BindParameter[Any]:
    return sa.bindparam(f"0{index}")  # no column can have that name, so none is mistaken for it


def _where(dialect: Dialect, target: sa.TableClause, shape: Shape, first: int) -> list[ColumnElement[bool]]:
    clauses = []
    for column, operator, arity in shape:
        values = [_value(first + i) for i in range(arity)]
        compared = target.c[column]
        if operator in ("from", "below"):
            compared, operator = _by_code_point(dialect, compared), "gte" if operator == "from" else "lt"
        clauses.append(_CLAUSES[operator](compared, values))
        first += arity
    return clauses


def _ordered(dialect: Dialect, column: Any, down: bool, nullable: bool) -> ColumnElement[Any]:
    """Order by a column, nulls before everything else (ascending) on every database: some have them last."""
    ordered: ColumnElement[Any] = column.desc() if down else column.asc()
    if nullable and dialect.name == "postgresql":
        return ordered.nulls_last() if down else ordered.nulls_first()
    return ordered


def _by_code_point(dialect: Dialect, column: Any) -> Any:
    return column.collate("C") if dialect.name == "postgresql" else column


_CLAUSES: dict[str, Callable[[Any, list[Any]], ColumnElement[bool]]] = {
    "null": lambda column, _: column.is_(None),
    "not_null": lambda column, _: column.is_not(None),
    "eq": lambda column, values: column == values[0],
    "ne": lambda column, values: column.is_distinct_from(values[0]),
    "lt": lambda column, values: column < values[0],
    "lte": lambda column, values: column <= values[0],
    "gt": lambda column, values: column > values[0],
    "gte": lambda column, values: column >= values[0],
    "in": lambda column, values: column.in_(values) if values else sa.false(),
    "in_or_null": lambda column, values: sa.or_(column.in_(values), column.is_(None)) if values else column.is_(None),
}


def _compiled(dialect: Dialect, statement: ClauseElement) -> Compiled:
    compiled: Any = statement.compile(dialect=_COMPILERS[dialect.name])
    return Compiled(str(compiled), tuple(int(name) for name in compiled.positiontup or ()))
