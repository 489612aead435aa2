"""The way from the shape of a statement to its SQL, of which the part that needs SQLAlchemy is loaded late."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol, TypeVar, cast

from base04_builtin.database.ddl import quoted
from base04_builtin.database.dialects import Dialect

Shape = tuple[tuple[str, str, int], ...]
"""Conditions without their values: column, operator (``null`` and others beside the contract's), how many values."""
Order = tuple[tuple[str, bool, bool], ...]
"""An order: column, whether descending, whether there may be nulls."""

T = TypeVar("T")

_MODULE: Final = "base04_builtin.database.statements"


class Compiled(NamedTuple):
    """SQL, and for each of its placeholders which of the values it takes."""

    sql: str
    order: tuple[int, ...]

    def bind(self, values: Sequence[T]) -> tuple[T, ...]:
        """Return the values in the order of the placeholders."""
        return tuple(values[index] for index in self.order)


class Compiler(Protocol):
    """The functions of ``base04_builtin.database.statements``."""

    def insert(
        self, dialect: Dialect, table: str, columns: tuple[str, ...], unless: tuple[str, ...] = ()
    ) -> Compiled: ...

    def update(self, dialect: Dialect, table: str, columns: tuple[str, ...], shape: Shape) -> Compiled: ...

    def delete(self, dialect: Dialect, table: str, shape: Shape) -> Compiled: ...

    def select(
        self,
        dialect: Dialect,
        table: str,
        columns: tuple[str, ...] | None,
        shape: Shape,
        order: Order,
        *,
        limited: bool,
    ) -> Compiled: ...

    def count(self, dialect: Dialect, table: str, shape: Shape) -> Compiled: ...


class CompilerNotLoaded(Exception):
    """A statement is to be compiled: load the compiler, then plan again."""


def compiler() -> Compiler:
    """Return what compiles statements.

    Raises:
        CompilerNotLoaded: it is not there yet.
    """
    module = sys.modules.get(_MODULE)
    if module is None or not hasattr(module, "count"):  # another thread is about to import it
        raise CompilerNotLoaded
    return cast(Compiler, module)


async def load_compiler() -> None:
    """Import the compiler, and SQLAlchemy with it, in a worker thread: it takes a while, and not everybody needs it."""
    await asyncio.to_thread(importlib.import_module, _MODULE)


def count(dialect: Dialect, table: str, shape: Shape) -> Compiled:
    """Count the rows where conditions hold; how many there are in all is asked without a compiler."""
    if not shape:
        return Compiled(f"SELECT count(*) AS n FROM {quoted(table)}", ())  # noqa: S608 - a validated name, in quotes
    return compiler().count(dialect, table, shape)
