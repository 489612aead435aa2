"""Versions of stored schemas in PostgreSQL, and the lock between processes that migrate them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from base04_builtin.database.ddl import VERSIONS
from base04_builtin.database.postgresql.connector import Connector
from base04_builtin.database.postgresql.driver import Connection, QueryCanceledError
from base04_builtin.database.postgresql.tables import LOCK_CLASS
from base04_builtin.database.requests import Query, Step
from base04_hookspecs.errors import ManagerUnavailable

if TYPE_CHECKING:
    from base04_builtin.database.postgresql.core import PostgresCore

_MIGRATION_LOCK: Final = 1


class PostgresMigrationStore:
    """Keeps versions in a table; the lock is an advisory lock on a connection of its own.

    The server releases that when the connection ends, so that no expiry has to be guessed, and the pool is free for
    the migration itself.

    Args:
        core: carries out statements.
        connector: opens the connection for the lock.
        timeout_s: how long to wait for another process.
    """

    def __init__(self, core: PostgresCore, connector: Connector, timeout_s: float) -> None:
        self._core = core
        self._connector = connector
        self._timeout_s = timeout_s
        self._holder: Connection | None = None

    async def version(self, owner: str) -> int:
        """Return the stored version of an owner, 0 where there is none."""
        query = Query(f"SELECT version FROM {VERSIONS} WHERE owner = $1", (owner,))  # noqa: S608 - a constant
        rows = await self._core.rows(query, "read_write")
        return int(rows[0]["version"]) if rows else 0

    async def record(self, owner: str, version: int) -> None:
        """Store the version that follows the stored one."""
        if self._holder is None or self._holder.is_closed():
            raise ManagerUnavailable("The lock for migrations was lost with its connection: the step is run again.")
        insert = f"INSERT INTO {VERSIONS} (owner, version) VALUES ($1, $2) ON CONFLICT DO NOTHING"  # noqa: S608
        update = f"UPDATE {VERSIONS} SET version = $2 WHERE owner = $1 AND version = $2 - 1"  # noqa: S608
        step = Step(
            insert if version == 1 else update,
            (owner, version),
            f"that records version {version} of {owner!r}",
            expect=1,
            single=True,
        )
        await self._core.transaction((step,), "read_write")

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Hold the lock between processes."""
        connection = await self._connector.connect()
        try:
            await self._lock(connection)
            self._holder = connection
            yield
        finally:
            self._holder = None
            connection.terminate()

    async def _lock(self, connection: Connection) -> None:
        milliseconds = max(1, round(self._timeout_s * 1000))
        try:
            await connection.execute(f"SET statement_timeout = {milliseconds}")
            await connection.fetchval(
                "SELECT pg_advisory_lock($1::int, $2::int)", LOCK_CLASS, _MIGRATION_LOCK, timeout=self._timeout_s + 1
            )
            await connection.execute("SET statement_timeout = 0")
        except (QueryCanceledError, TimeoutError) as error:
            raise ManagerUnavailable(
                f"Another process has been migrating the database for more than {self._timeout_s:g} seconds: "
                "see in pg_locks who holds the advisory lock."
            ) from error
