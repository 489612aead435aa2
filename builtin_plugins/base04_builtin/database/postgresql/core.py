"""What all views of one PostgreSQL database share: pools, catalogue, migrations, and when to try again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from base04_builtin.database.catalogue import Catalogue
from base04_builtin.database.ddl import CATALOGUE
from base04_builtin.database.dialects import POSTGRESQL
from base04_builtin.database.migration import Migrator
from base04_builtin.database.postgresql.connector import Connector
from base04_builtin.database.postgresql.driver import InterfaceError, PostgresError
from base04_builtin.database.postgresql.errors import asks_for_retry, is_lost, translated
from base04_builtin.database.postgresql.migration import PostgresMigrationStore
from base04_builtin.database.postgresql.pool import Pool, PoolLimits
from base04_builtin.database.postgresql.session import PostgresSession
from base04_builtin.database.postgresql.settings import PostgresSettings
from base04_builtin.database.postgresql.tables import ensure_table, make_own_tables
from base04_builtin.database.requests import Query, Rows, Step
from base04_hookspecs import AccessRole, HealthReport, health_report
from base04_hookspecs.database import DatabaseManager, Migration, PoolStatus, TableSchema
from base04_hookspecs.errors import (
    ConfigurationError,
    Conflict,
    InvalidInput,
    ManagerError,
    ManagerUnavailable,
    NotSupported,
    OutcomeUnknown,
)

T = TypeVar("T")

_PAUSE_S: Final = 0.01
_READS: Final = frozenset({"select", "values", "table", "show"})
_SETTLED: Final = (PostgresError, InterfaceError, InvalidInput, Conflict, NotSupported)
"""Errors after which nothing runs on the connection any more."""


class PostgresCore:
    """One database and everything that is open for it.

    Reads are tried again once on another connection, transactions as the settings say, both only where nothing can
    have been done; a caller's own statement is never run twice unless its access role cannot write.
    """

    dialect = POSTGRESQL

    def __init__(self, settings: PostgresSettings) -> None:
        self.settings = settings
        self.max_value_bytes = settings.max_value_bytes
        self.catalogue = Catalogue(POSTGRESQL, settings.max_value_bytes, self._stored_tables)
        self._connector = Connector(settings, settings.url, read_only=False)
        self._pools: dict[AccessRole, Pool] = {"read_write": self._pool("writing", self._connector, False)}
        self._pools["read_only"] = self._pool(
            "reading", Connector(settings, settings.read_only_url or settings.url, read_only=True), True
        )
        self._pools["admin"] = (
            self._pool("administrating", Connector(settings, settings.admin_url, read_only=False), False)
            if settings.admin_url is not None
            else self._pools["read_write"]
        )
        self._migrator = Migrator(PostgresMigrationStore(self, self._connector, settings.migration_timeout))
        self._errors = 0
        self._running = False

    async def open(self) -> None:
        """Log in with each set of credentials, and make the manager's own tables.

        Raises:
            ConfigurationError: the server refuses us.
            ManagerUnavailable: it cannot be reached just now.
        """
        self._running = True
        for access in self._configured():
            pool = self._pools[access]
            pool.release(await pool.acquire())
        try:
            await self._repeated("read_write", make_own_tables)
        except NotSupported as error:
            raise ConfigurationError(
                f"The tables that the manager keeps for itself cannot be made: {error} Grant the user CREATE on the "
                "schema, or make them as another user."
            ) from error

    async def close(self) -> None:
        """Close all connections."""
        self._running = False
        await asyncio.gather(*(pool.close() for pool in self._distinct()))

    async def query(self, query: Query, access: AccessRole) -> Any:
        """Run a caller's own statement."""
        if access == "read_only":
            return await self._read(access, lambda session: session.query(query))
        try:
            return await self._once(access, lambda session: session.query(query))
        except Exception as error:
            if (is_lost(error) or isinstance(error, TimeoutError)) and query.keyword not in _READS:
                self._errors += 1
                raise OutcomeUnknown(
                    "The connection to PostgreSQL broke during the statement: it may or may not have been carried out."
                ) from error
            raise self._translated(error, access) from error

    async def rows(self, query: Query, access: AccessRole) -> Rows:
        """Run a statement that reads."""
        return await self._read(access, lambda session: session.rows(query))

    async def transaction(self, steps: tuple[Step, ...], access: AccessRole) -> bool:
        """Carry out all steps or none."""
        return await self._repeated(access, lambda session: session.transaction(steps))

    async def ensure_table(self, table: TableSchema, access: AccessRole) -> TableSchema:
        """Create or complete a table."""
        return await self._repeated(access, lambda session: ensure_table(session, table))

    async def migrate(self, database: DatabaseManager, owner: str, migrations: Sequence[Migration]) -> int:
        """Bring the stored schema of an owner up to date."""
        return await self._migrator.migrate(database, owner, migrations)

    async def answers(self, access: AccessRole) -> bool:
        """Tell whether the server answers."""
        try:
            await self.rows(Query("SELECT 1 AS one"), access)
        except ManagerError:
            return False
        return True

    async def health(self, access: AccessRole) -> HealthReport:
        """Ask the server, and report."""
        began = time.perf_counter()
        connections = sum(pool.open for pool in self._distinct())
        try:
            [row] = await self.rows(
                Query("SELECT pg_is_in_recovery() AS standby, current_setting('server_version') AS version"), access
            )
        except ManagerError as error:
            return health_report("unhealthy", str(error), connections=connections, errors=self._errors)
        standby = row["standby"] and access != "read_only"
        return health_report(
            "degraded" if standby else "healthy",
            "the server is a standby and takes no changes" if standby else f"PostgreSQL {row['version']} answers",
            connections=sum(pool.open for pool in self._distinct()),
            errors=self._errors,
            response_time=time.perf_counter() - began,
            waiting=sum(pool.waiting for pool in self._distinct()),
        )

    def pool_status(self, access: AccessRole) -> PoolStatus:
        """Return the use of the access role's pool."""
        return self._pools[access].status()

    async def _read(self, access: AccessRole, work: Callable[[PostgresSession], Awaitable[T]]) -> T:
        try:
            return await self._once(access, work)
        except Exception as error:
            if not is_lost(error):
                raise self._translated(error, access) from error
        try:
            return await self._once(access, work)
        except Exception as error:
            raise self._translated(error, access) from error

    async def _repeated(self, access: AccessRole, work: Callable[[PostgresSession], Awaitable[T]]) -> T:
        """Run a whole transaction, and again where that is safe and makes sense."""
        give_up = time.monotonic() + self.settings.statement_timeout
        attempt = 0
        while True:
            try:
                return await self._once(access, work)
            except Exception as error:
                attempt += 1
                if not asks_for_retry(error) or attempt > self.settings.retries or time.monotonic() > give_up:
                    raise self._translated(error, access) from error
            await asyncio.sleep(random.uniform(0, _PAUSE_S * 2**attempt))  # noqa: S311 - no secret

    async def _once(self, access: AccessRole, work: Callable[[PostgresSession], Awaitable[T]]) -> T:
        pool = self._pools[access]
        try:
            session = await pool.acquire()
        except ConfigurationError as error:
            raise ManagerUnavailable(str(error)) from error
        try:
            return await work(session)
        except _SETTLED:
            raise
        except BaseException:
            session.interrupted = True
            raise
        finally:
            pool.release(session)

    def _translated(self, error: Exception, access: AccessRole) -> Exception:
        if isinstance(error, ConfigurationError):
            return error
        found = translated(error, read_only=access == "read_only")
        if isinstance(found, ManagerUnavailable | OutcomeUnknown):
            self._errors += 1
        return found

    async def _stored_tables(self) -> list[str]:
        rows = await self.rows(Query(f"SELECT definition FROM {CATALOGUE}"), "read_write")  # noqa: S608 - a constant
        return [row["definition"] for row in rows]

    def _pool(self, name: str, connector: Connector, read_only: bool) -> Pool:
        settings = self.settings

        async def open_session() -> PostgresSession:
            if not self._running:
                raise ManagerUnavailable("The database manager is not running: it was stopped or never started.")
            return PostgresSession(
                await connector.connect(), settings.statement_timeout, settings.connect_timeout, read_only=read_only
            )

        limits = PoolLimits(
            settings.pool_size, settings.pool_timeout, settings.idle_timeout, settings.ping_after, settings.recycle
        )
        return Pool(name, limits, open_session)

    def _configured(self) -> list[AccessRole]:
        """Return the access roles that have credentials of their own."""
        roles: list[AccessRole] = ["read_write"]
        if self.settings.read_only_url is not None:
            roles.append("read_only")
        if self.settings.admin_url is not None:
            roles.append("admin")
        return roles

    def _distinct(self) -> list[Pool]:
        return list(dict.fromkeys(self._pools.values()))
