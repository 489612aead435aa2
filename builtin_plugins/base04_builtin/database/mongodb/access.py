"""What users of a MongoDB see: the contract, with an access role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from base04_builtin.database.mongodb.commands import Command
from base04_builtin.database.mongodb.core import MongoCore
from base04_builtin.database.operations import operation_table
from base04_builtin.database.schema import check_schema
from base04_hookspecs import AccessRole, HealthReport
from base04_hookspecs.database import DatabaseManager, Migration, Operation, PoolStatus, TableSchema, Where
from base04_hookspecs.errors import Base04Error, InvalidInput, NotSupported


class MongoAccess(DatabaseManager):
    """One database as seen with an access role. Views share everything with the manager that made them.

    A read-only view sends commands only as the user of ``read_only_url``, whom the server keeps from writing; where the
    settings name none, it still reads through ``find`` and ``count``, which are made here and cannot write.
    """

    def __init__(self, core: MongoCore, access: AccessRole = "read_write") -> None:
        self._core = core
        self._access: AccessRole = access

    def with_access(self, access: AccessRole) -> DatabaseManager:
        """Return a view with an access role; a read-only one gives only read-only ones."""
        if access not in get_args(AccessRole):
            raise InvalidInput(f"The access role {access!r} is unknown: there are {', '.join(get_args(AccessRole))}.")
        if self._access == "read_only" and access != "read_only":
            raise NotSupported("A read-only view of the database cannot be widened: ask the manager itself.")
        return MongoAccess(self._core, access)

    def supports_transactions(self) -> bool:
        """Tell whether several documents change together: in a replica set or a sharded cluster."""
        return self._core.deployment.transactions

    async def check_connection(self) -> bool:
        """Tell whether the server answers."""
        try:
            await self._core.ping(self._access)
        except Base04Error:
            return False
        return True

    async def execute_query(self, query: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Run one command document; see the contract.

        With ``params``, every string ``":name"`` in it stands for one of them: a value or a list of values, never a
        document. Rows are what a cursor yields, or the reply; ``insert``, ``update``, ``delete`` and ``count`` give a
        number.
        """
        command = Command(query, params, self._core.settings.max_value_bytes)
        if self._access == "read_only" and not self._core.clients.has_own("read_only"):
            raise NotSupported(
                "A read-only view can send commands only as a user whom the server keeps from writing: name one as "
                "'read_only_url' in the settings of the database, or use find and count."
            )
        return await self._core.command(command, self._access)

    async def execute_transaction(self, operations: Sequence[Operation]) -> bool:
        """Carry out operations, all or none; see the contract.

        One change of one row is whole everywhere. Several change together in a replica set or a sharded cluster; on a
        server that stands alone they are refused, or, with ``single_document_atomicity``, made one after the other and
        taken back where one fails.
        """
        self._refuse_if_read_only("execute_transaction")
        if isinstance(operations, str | Mapping) or not isinstance(operations, Sequence) or not operations:
            raise InvalidInput("The operations must be a list with at least one operation.")
        count = len(operations)
        places = [f"{number} of {count}" for number in range(1, count + 1)]
        tables = [operation_table(each, place) for each, place in zip(operations, places, strict=True)]
        changes = await self._core.catalogue.plan(
            tables,
            lambda planner: tuple(
                planner(table).change(each, place)
                for each, table, place in zip(operations, tables, places, strict=True)
            ),
        )
        return await self._core.transaction(changes, self._access)

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
        planner, (plan, names) = await self._core.catalogue.plan(
            [table], lambda planner: (planner(table), planner(table).find(where, order_by, limit, offset, columns))
        )
        if limit == 0:
            return []
        return [planner.row(document, names) for document in await self._core.rows(table, plan, self._access)]

    async def count(self, table: str, where: Where | None = None) -> int:
        """Return how many rows match."""
        matching = await self._core.catalogue.plan([table], lambda planner: planner(table).filter(where))
        return await self._core.count(table, matching, self._access)

    async def ensure_table(self, table: TableSchema) -> None:
        """Declare a table and make its indexes; see the contract. Columns need no change of documents."""
        self._refuse_if_read_only("ensure_table")
        self._core.catalogue.remember(await self._core.ensure_table(check_schema(table), self._access))

    async def migrate(self, owner: str, migrations: Sequence[Migration]) -> int:
        """Bring the stored schema of an owner up to date; see the contract."""
        self._refuse_if_read_only("migrate")
        return await self._core.migrator.migrate(self, owner, migrations)

    async def get_connection_pool_status(self) -> PoolStatus:
        """Return the use of the connections of all access roles together."""
        return self._core.pool_status()

    async def health_check(self) -> HealthReport:
        """Report whether the server answers, how quickly, and what it can do."""
        return await self._core.health(self._access)

    def _refuse_if_read_only(self, what: str) -> None:
        if self._access == "read_only":
            raise NotSupported(f"{what} writes, and this access is read-only: use the read_write access.")
