"""How collections were declared, as far as this process knows; asked again when a name is not known."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from base04_builtin.database.mongodb.documents import DocumentPlanner
from base04_builtin.database.names import check_table
from base04_builtin.database.schema import loaded
from base04_hookspecs.database import TableSchema
from base04_hookspecs.errors import InvalidInput

T = TypeVar("T")


class DocumentCatalogue:
    """Planners for collections. Another process may declare tables and columns at any time, so a miss is looked up.

    Args:
        max_bytes: the most that one value may take.
        stored: reads the declarations that the database keeps, as ``schema.dumped`` wrote them.
    """

    def __init__(self, max_bytes: int, stored: Callable[[], Awaitable[Iterable[str]]]) -> None:
        self._max_bytes = max_bytes
        self._stored = stored
        self._planners: dict[str, DocumentPlanner] = {}

    def remember(self, table: TableSchema) -> None:
        """Take note of a table that was just declared."""
        self._planners[table.name] = DocumentPlanner(table.name, table, self._max_bytes)

    async def plan(self, tables: Sequence[object], make: Callable[[Callable[[str], DocumentPlanner]], T]) -> T:
        """Call ``make`` with a look-up of planners; once more with fresh declarations where it finds fault.

        Raises:
            InvalidInput: what ``make`` raised the second time.
        """
        names = [check_table(table) for table in tables]
        if all(name in self._planners for name in names):
            try:
                return make(self._planner)
            except InvalidInput:  # perhaps about a column that another process has added
                pass
        for definition in await self._stored():
            self.remember(loaded(definition))
        return make(self._planner)

    def _planner(self, name: str) -> DocumentPlanner:
        if name in self._planners:
            return self._planners[name]
        alike = [known for known in self._planners if known.lower() == name.lower()]
        if alike:
            raise InvalidInput(f"There is no table {name!r}; its name is written {alike[0]!r}.")
        return DocumentPlanner(name, None, self._max_bytes)
