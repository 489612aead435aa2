"""How tables were declared, as far as this process knows; asked again from the database when a name is not known."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from base04_builtin.database.compiling import CompilerNotLoaded, load_compiler
from base04_builtin.database.dialects import Dialect
from base04_builtin.database.names import check_table
from base04_builtin.database.planner import TablePlanner
from base04_builtin.database.schema import loaded
from base04_hookspecs.database import TableSchema
from base04_hookspecs.errors import InvalidInput

T = TypeVar("T")
Lookup = Callable[[str], TablePlanner]


class Catalogue:
    """Planners for tables. Another process may declare tables and columns at any time, so a miss is looked up.

    Args:
        dialect: the dialect of the database.
        max_bytes: the most that one value may take.
        stored: reads the declarations that the database keeps, as ``schema.dumped`` wrote them.
    """

    def __init__(self, dialect: Dialect, max_bytes: int, stored: Callable[[], Awaitable[Iterable[str]]]) -> None:
        self._dialect = dialect
        self._max_bytes = max_bytes
        self._stored = stored
        self._tables: dict[str, TableSchema] = {}
        self._planners: dict[str, TablePlanner] = {}

    def remember(self, table: TableSchema) -> None:
        """Take note of a table that was just declared."""
        if self._tables.get(table.name) != table:
            self._tables[table.name] = table
            self._planners.pop(table.name, None)

    async def plan(self, tables: Callable[[], Sequence[object]], make: Callable[[Lookup], T]) -> T:
        """Call ``make`` with a look-up of planners; once more with fresh declarations where it finds fault.

        Args:
            tables: returns the names that will be looked up, or raises; asked only where a look-up failed.
            make: plans.

        Raises:
            InvalidInput: what ``make`` raised the second time.
        """
        try:
            return make(self._planners.__getitem__)
        except CompilerNotLoaded:
            await load_compiler()
            return make(self._planners.__getitem__)
        except (KeyError, TypeError, AttributeError, InvalidInput):  # nothing that this process has heard of
            names = [check_table(table) for table in tables()]
        try:
            return await self._plan_anew(names, make)
        except CompilerNotLoaded:
            await load_compiler()
            return await self._plan_anew(names, make)

    async def _plan_anew(self, names: Sequence[str], make: Callable[[Lookup], T]) -> T:
        if all(name in self._tables for name in names):
            try:
                return make(self._planner)
            except InvalidInput:  # perhaps about a column that another process has added
                pass
        for definition in await self._stored():
            self.remember(loaded(definition))
        return make(self._planner)

    def _planner(self, name: str) -> TablePlanner:
        if name in self._planners:
            return self._planners[name]
        table = self._tables.get(name)
        if table is None:
            self._refuse_other_case(name)
        planner = TablePlanner(self._dialect, name, table, self._max_bytes)
        if table is not None:
            self._planners[name] = planner
        return planner

    def _refuse_other_case(self, name: str) -> None:
        for known in self._tables:
            if known.lower() == name.lower():
                raise InvalidInput(f"There is no table {name!r}; its name is written {known!r}.")
