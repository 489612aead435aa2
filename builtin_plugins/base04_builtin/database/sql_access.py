"""What users of a SQL database see: the contract, with an access role."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol, get_args

from base04_builtin.database.catalogue import Catalogue, Lookup
from base04_builtin.database.dialects import Dialect
from base04_builtin.database.operations import operation_table
from base04_builtin.database.placeholders import translate
from base04_builtin.database.requests import Query, Rows, Step
from base04_builtin.database.schema import check_schema
from base04_builtin.database.values import to_stored
from base04_hookspecs import AccessRole, HealthReport
from base04_hookspecs.database import DatabaseManager, Migration, Operation, PoolStatus, TableSchema, Where
from base04_hookspecs.errors import InvalidInput, NotSupported


class SqlCore(Protocol):
    """What a database does under the contract: requests that are planned and checked, with an access role."""

    dialect: Dialect
    catalogue: Catalogue
    max_value_bytes: int

    async def query(self, query: Query, access: AccessRole) -> Any:
        """Run a caller's own statement."""

    def rows(self, query: Query, access: AccessRole) -> Awaitable[Rows]:
        """Run a statement of the portable core that reads."""

    def transaction(self, steps: tuple[Step, ...], access: AccessRole) -> Awaitable[bool]:
        """Carry out all steps or none."""

    async def ensure_table(self, table: TableSchema, access: AccessRole) -> TableSchema:
        """Create or complete a table and return its whole schema."""

    async def migrate(self, database: DatabaseManager, owner: str, migrations: Sequence[Migration]) -> int:
        """Bring the stored schema of an owner up to date."""

    async def answers(self, access: AccessRole) -> bool:
        """Tell whether the database answers."""

    async def health(self, access: AccessRole) -> HealthReport:
        """Ask the database, and report."""

    def pool_status(self, access: AccessRole) -> PoolStatus:
        """Return the use of connections."""


class SqlAccess(DatabaseManager):
    """One SQL database as seen with an access role. Views share everything with the manager that made them."""

    def __init__(self, core: SqlCore, access: AccessRole = "read_write") -> None:
        self._core = core
        self._access: AccessRole = access

    def with_access(self, access: AccessRole) -> DatabaseManager:
        """Return a view with an access role; a read-only one gives only read-only ones."""
        if access not in get_args(AccessRole):
            raise InvalidInput(f"The access role {access!r} is unknown: there are {', '.join(get_args(AccessRole))}.")
        if self._access == "read_only" and access != "read_only":
            raise NotSupported("A read-only view of the database cannot be widened: ask the manager itself.")
        return SqlAccess(self._core, access)

    async def check_connection(self) -> bool:
        """Tell whether the database answers."""
        return await self._core.answers(self._access)

    async def execute_query(self, query: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Run one statement; see the contract."""
        if not isinstance(query, str):
            raise InvalidInput(f"The statement must be SQL text, not {type(query).__name__}.")
        if "\0" in query:
            raise InvalidInput("The statement holds a NUL character, which databases do not take.")
        translated = translate(query, self._core.dialect)
        limit = self._core.max_value_bytes
        values = [to_stored(v, None, f"the parameter {name!r}", limit) for name, v in translated.values(params)]
        return await self._core.query(Query(translated.sql, tuple(values), translated.keyword), self._access)

    async def execute_transaction(self, operations: Sequence[Operation]) -> bool:
        """Carry out operations, all or none; see the contract."""
        self._refuse_if_read_only("execute_transaction")
        if operations.__class__ is not list and (
            isinstance(operations, str | Mapping) or not isinstance(operations, Sequence)
        ):
            raise InvalidInput("The operations must be a list.")
        if not operations:
            raise InvalidInput("The operations must be a list with at least one operation.")
        steps = await self._core.catalogue.plan(
            lambda: _tables(operations), lambda planner: _steps(operations, planner)
        )
        return await self._core.transaction(steps, self._access)

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
        planner, query = await self._core.catalogue.plan(
            lambda: [table],
            lambda planner: (planner(table), planner(table).select(where, order_by, limit, offset, columns)),
        )
        return planner.typed(await self._core.rows(query, self._access))

    async def count(self, table: str, where: Where | None = None) -> int:
        """Return how many rows match."""
        query = await self._core.catalogue.plan(lambda: [table], lambda planner: planner(table).count(where))
        rows = await self._core.rows(query, self._access)
        return int(rows[0]["n"])

    async def ensure_table(self, table: TableSchema) -> None:
        """Create or complete a table; see the contract."""
        self._refuse_if_read_only("ensure_table")
        self._core.catalogue.remember(await self._core.ensure_table(check_schema(table), self._access))

    async def migrate(self, owner: str, migrations: Sequence[Migration]) -> int:
        """Bring the stored schema of an owner up to date; see the contract."""
        self._refuse_if_read_only("migrate")
        return await self._core.migrate(self, owner, migrations)

    async def get_connection_pool_status(self) -> PoolStatus:
        """Return the use of connections."""
        return self._core.pool_status(self._access)

    async def health_check(self) -> HealthReport:
        """Report whether the database answers and how quickly."""
        return await self._core.health(self._access)

    def _refuse_if_read_only(self, what: str) -> None:
        if self._access == "read_only":
            raise NotSupported(f"{what} writes, and this access is read-only: use the read_write access.")


def _tables(operations: Sequence[Operation]) -> list[str]:
    places = _places(len(operations))
    return [operation_table(operation, place) for operation, place in zip(operations, places, strict=True)]


def _steps(operations: Sequence[Operation], planner: Lookup) -> tuple[Step, ...]:
    places = _places(len(operations))
    steps = [
        planner(operation["table"]).step(operation, place) for operation, place in zip(operations, places, strict=True)
    ]
    return tuple(steps)


@lru_cache(maxsize=64)
def _places(count: int) -> tuple[str, ...]:
    """Return what operations are called in messages."""
    return tuple(f"{number} of {count}" for number in range(1, count + 1))
