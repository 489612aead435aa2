"""What users of the database see: the contract, with an access role."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from base04_builtin.database.placeholders import translate
from base04_builtin.database.requests import EnsureTable, Query, Rows, Transaction
from base04_builtin.database.schema import check_schema
from base04_builtin.database.sqlite.core import SqliteCore
from base04_builtin.database.values import from_stored, to_stored
from base04_hookspecs import AccessRole, HealthReport
from base04_hookspecs.database import DatabaseManager, Migration, Operation, PoolStatus, TableSchema, Where
from base04_hookspecs.errors import InvalidInput, ManagerUnavailable, NotSupported

if TYPE_CHECKING:
    from base04_builtin.database.planner import TablePlanner

_PLANNER = "base04_builtin.database.planner"


class SqliteAccess(DatabaseManager):
    """One database as seen with an access role. Views share everything with the manager that made them.

    On SQLite ``admin`` may do what ``read_write`` may: a file has no users. ``read_only`` uses connections on which
    SQLite itself refuses every change.
    """

    def __init__(self, core: SqliteCore, access: AccessRole = "read_write") -> None:
        self._core = core
        self._access = access

    def with_access(self, access: AccessRole) -> DatabaseManager:
        """Return a view with an access role; a read-only one gives only read-only ones."""
        if access not in get_args(AccessRole):
            raise InvalidInput(f"The access role {access!r} is unknown: there are {', '.join(get_args(AccessRole))}.")
        if self._access == "read_only" and access != "read_only":
            raise NotSupported("A read-only view of the database cannot be widened: ask the manager itself.")
        return SqliteAccess(self._core, access)

    async def check_connection(self) -> bool:
        """Tell whether the file can be read."""
        try:
            await self._core.readers.submit(Query("SELECT count(*) AS n FROM sqlite_master"))
        except ManagerUnavailable:
            return False
        return True

    async def execute_query(self, query: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Run one statement; see the contract.

        It runs on a read-only connection first, and if SQLite says that it writes, on the writing one.
        """
        if not isinstance(query, str):
            raise InvalidInput(f"The statement must be SQL text, not {type(query).__name__}.")
        translated = translate(query)
        limit = self._core.settings.max_value_bytes
        values = [to_stored(v, None, f"the parameter {name!r}", limit) for name, v in translated.values(params)]
        return await self._run(Query(translated.sql, tuple(values)))

    async def _run(self, query: Query) -> Any:
        if self._access == "read_only" or query.sql not in self._core.known_to_write:
            try:
                return await self._core.readers.submit(query)
            except NotSupported:
                if self._access == "read_only":
                    raise
        result = await self._core.writer.submit(query)
        self._core.remember_write(query.sql)
        return result

    async def execute_transaction(self, operations: Sequence[Operation]) -> bool:
        """Carry out operations, all or none; see the contract."""
        self._refuse_if_read_only("execute_transaction")
        if isinstance(operations, str | Mapping) or not isinstance(operations, Sequence) or not operations:
            raise InvalidInput("The operations must be a list with at least one operation.")
        await load_planner()
        from base04_builtin.database.planner import operation_table

        count = len(operations)
        places = [f"{number} of {count}" for number in range(1, count + 1)]
        tables = [operation_table(each, place) for each, place in zip(operations, places, strict=True)]
        steps = await (await self._core.catalogue()).plan(
            tables,
            lambda planner: tuple(
                planner(table).step(each, place) for each, table, place in zip(operations, tables, places, strict=True)
            ),
        )
        done: bool = await self._core.writer.submit(Transaction(steps))
        return done

    async def find(
        self,
        table: str,
        where: Where | None = None,
        order_by: Sequence[str] = (),
        limit: int | None = None,
        *,
        offset: int = 0,
        columns: Sequence[str] | None = None,
    ) -> list[dict[str, Any]]:
        """Return matching rows; see the contract."""
        await load_planner()

        def make(planners: Any) -> tuple[TablePlanner, Query]:
            planner: TablePlanner = planners(table)
            return planner, planner.select(where, order_by, limit, offset, columns)

        planner, query = await (await self._core.catalogue()).plan([table], make)
        rows: Rows = await self._core.readers.submit(query)
        return [_typed(row, planner) for row in rows]

    async def count(self, table: str, where: Where | None = None) -> int:
        """Return how many rows match."""
        await load_planner()
        query = await (await self._core.catalogue()).plan([table], lambda planner: planner(table).count(where))
        rows: Rows = await self._core.readers.submit(query)
        return int(rows[0]["n"])

    async def ensure_table(self, table: TableSchema) -> None:
        """Create or complete a table; see the contract."""
        self._refuse_if_read_only("ensure_table")
        schema: TableSchema = await self._core.writer.submit(EnsureTable(check_schema(table)))
        self._core.declared(schema)

    async def migrate(self, owner: str, migrations: Sequence[Migration]) -> int:
        """Bring the stored schema of an owner up to date; see the contract."""
        self._refuse_if_read_only("migrate")
        return await self._core.migrator.migrate(self, owner, migrations)

    async def get_connection_pool_status(self) -> PoolStatus:
        """Return the use of the reading connections and the writing one together."""
        lanes = (self._core.readers, self._core.writer)
        return {
            "size": sum(lane.size for lane in lanes),
            "in_use": sum(lane.in_use for lane in lanes),
            "idle": sum(lane.idle for lane in lanes),
            "waiting": sum(lane.waiting for lane in lanes),
        }

    async def health_check(self) -> HealthReport:
        """Report whether the file answers, how quickly, and how large it is."""
        return await self._core.health()

    def _refuse_if_read_only(self, what: str) -> None:
        if self._access == "read_only":
            raise NotSupported(f"{what} writes, and this access is read-only: use the read_write access.")


async def load_planner() -> None:
    """Import the planner, and SQLAlchemy with it, in a worker thread: it takes a moment, and not everybody needs it."""
    if _PLANNER not in sys.modules:
        await asyncio.to_thread(importlib.import_module, _PLANNER)


def _typed(row: dict[str, Any], planner: TablePlanner) -> dict[str, Any]:
    return {name: from_stored(value, planner.type_of(name), f"{planner.name}.{name}") for name, value in row.items()}
