"""How tables were declared, as far as this process knows; asked again from the file when a name is not known."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from base04_builtin.database.names import check_table
from base04_builtin.database.planner import TablePlanner
from base04_builtin.database.requests import Query
from base04_builtin.database.schema import loaded
from base04_builtin.database.sqlite.lane import Lane
from base04_builtin.database.sqlite.tables import CATALOGUE
from base04_hookspecs.database import TableSchema
from base04_hookspecs.errors import InvalidInput

T = TypeVar("T")


class Catalogue:
    """Planners for tables. Another process may declare tables and columns at any time, so a miss is looked up.

    Args:
        readers: the lane that reads the stored catalogue.
        max_bytes: the most that one value may take.
    """

    def __init__(self, readers: Lane, max_bytes: int) -> None:
        self._readers = readers
        self._max_bytes = max_bytes
        self._planners: dict[str, TablePlanner] = {}

    def remember(self, table: TableSchema) -> None:
        """Take note of a table that was just declared."""
        self._planners[table.name] = TablePlanner(table.name, table, self._max_bytes)

    async def plan(self, tables: Iterable[object], make: Callable[[Callable[[str], TablePlanner]], T]) -> T:
        """Call ``make`` with a look-up of planners; once more with fresh declarations where it finds fault.

        Raises:
            InvalidInput: what ``make`` raised the second time.
        """
        names = {check_table(table) for table in tables}
        if names <= self._planners.keys():
            try:
                return make(self._planners.__getitem__)
            except InvalidInput:  # perhaps about a column that another process has added
                await self._load()
        else:
            await self._load()
        return make(self._planner)

    async def _load(self) -> None:
        rows = await self._readers.submit(Query(f"SELECT definition FROM {CATALOGUE}"))  # noqa: S608 - a constant
        for row in rows:
            self.remember(loaded(row["definition"]))

    def _planner(self, name: str) -> TablePlanner:
        if name in self._planners:
            return self._planners[name]
        alike = [known for known in self._planners if known.lower() == name.lower()]
        if alike:
            raise InvalidInput(f"There is no table {name!r}; its name is written {alike[0]!r}.")
        return TablePlanner(name, None, self._max_bytes)
