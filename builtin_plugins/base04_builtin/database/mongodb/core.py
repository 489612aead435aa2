"""What views of one MongoDB share: clients, declarations, locks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, Final

import structlog
from pymongo.asynchronous.database import AsyncDatabase

from base04_builtin.database.migration import Migrator
from base04_builtin.database.mongodb import transactions
from base04_builtin.database.mongodb.catalogue import DocumentCatalogue
from base04_builtin.database.mongodb.clients import Clients
from base04_builtin.database.mongodb.commands import Command
from base04_builtin.database.mongodb.declarations import TABLES, declare
from base04_builtin.database.mongodb.deployment import Deployment, examine, rights_to_write
from base04_builtin.database.mongodb.documents import Change, Document, Find
from base04_builtin.database.mongodb.lease import LOCKS, LeaseLock
from base04_builtin.database.mongodb.settings import MongoSettings
from base04_hookspecs import AccessRole, HealthReport, health_report
from base04_hookspecs.database import PoolStatus, TableSchema
from base04_hookspecs.errors import (
    Base04Error,
    ConfigurationError,
    Conflict,
    InvalidInput,
    ManagerError,
    ManagerUnavailable,
)

VERSIONS: Final = "_base04_versions"

log = structlog.get_logger()


class MongoCore:
    """Everything that is asked of the server, each call through the lane of its access role."""

    def __init__(self, settings: MongoSettings) -> None:
        self.settings = settings
        self.clients = Clients(settings)
        self.catalogue = DocumentCatalogue(settings.max_value_bytes, self._declarations)
        self.migrator = Migrator(_Versions(self))
        self._deployment: Deployment | None = None
        self._locks: dict[str, LeaseLock] = {}

    async def start(self) -> None:
        """Connect with every address that the settings name, and find out what answers."""
        self.clients.open()
        database = self.clients.database("read_write")
        self._deployment = await self.clients.lane("read_write").call(lambda: examine(database))
        if self.clients.has_own("admin"):
            await self.ping("admin")
        if self.clients.has_own("read_only"):
            await self._check_that_it_cannot_write()
        log.debug(
            "connected to the database",
            server=f"{self._deployment.name} {self._deployment.version}",
            transactions=self._deployment.transactions,
        )

    async def stop(self) -> None:
        """Let calls end that are under way, and close all connections."""
        await self.clients.finish()
        for lock in self._locks.values():
            await lock.stop()
        await self.clients.close()

    @property
    def deployment(self) -> Deployment:
        """What answers.

        Raises:
            ManagerUnavailable: the manager has not started.
        """
        if self._deployment is None:
            raise ManagerUnavailable("The database manager has not started.")
        return self._deployment

    async def ping(self, access: AccessRole) -> None:
        """Raise where the server does not answer."""
        await self.clients.lane(access).call(lambda: self.clients.database(access).command("ping"))

    async def rows(self, table: str, find: Find, access: AccessRole) -> list[Document]:
        """Read documents."""
        return await self.clients.lane(access).call(lambda: self._rows(self.clients.database(access), table, find))

    async def count(self, table: str, matching: Document, access: AccessRole) -> int:
        """Count documents."""
        collection = self.clients.database(access)[table]
        return await self.clients.lane(access).call(lambda: collection.count_documents(matching))

    async def command(self, command: Command, access: AccessRole) -> Any:
        """Send a command."""
        database = self.clients.database(access)
        guard = self._guard() if command.writes else nullcontext()
        return await self.clients.lane(access).call(
            lambda: _guarded(guard, command.run, database), sent=lambda: command.writes
        )

    async def transaction(self, changes: Sequence[Change], access: AccessRole) -> bool:
        """Carry out all changes or none, as the server allows; see ``transactions``."""
        database, lane = self.clients.database(access), self.clients.lane(access)
        committing = asyncio.Event()
        if not transactions.needs_transaction(changes):
            committing.set()
            guard = nullcontext() if changes[0].kind == "insert" else self._guard()
            await lane.call(lambda: _guarded(guard, transactions.at_once, database, changes[0]), sent=committing.is_set)
        elif self.deployment.transactions:
            limit_s = self.settings.statement_timeout
            await lane.call(
                lambda: transactions.in_session(database, changes, committing, limit_s), sent=committing.is_set
            )
        elif self.settings.single_document_atomicity:
            committing.set()
            await lane.call(
                lambda: _guarded(self._guard(), transactions.in_order, database, changes), sent=committing.is_set
            )
        else:
            raise transactions.not_supported()
        return True

    async def ensure_table(self, table: TableSchema, access: AccessRole) -> TableSchema:
        """Declare a table and make its indexes; return its whole schema."""
        if any(column.name == "_id" for column in table.columns):
            raise InvalidInput(f"The table {table.name!r} has a column '_id', which is MongoDB's own: rename it.")
        maker: AccessRole = "admin" if access == "read_write" and self.clients.has_own("admin") else access
        database = self.clients.database(maker)
        timeout_s = self.settings.migration_timeout
        return await self.clients.lane(maker).call(
            lambda: _guarded(self.lock("tables", timeout_s), declare, database, table),
            sent=lambda: True,
            limit_s=timeout_s + self.settings.statement_timeout,
        )

    def lock(self, name: str, timeout_s: float) -> AbstractAsyncContextManager[None]:
        """Return a lock between processes to hold."""
        if name not in self._locks:
            locks = self.clients.database("read_write")[LOCKS]
            self._locks[name] = LeaseLock(locks, name, lease_s=self.settings.lease, timeout_s=timeout_s)
        return self._locks[name].held()

    def pool_status(self) -> PoolStatus:
        """Return the use of all connections."""
        return self.clients.pool_status()

    async def health(self, access: AccessRole) -> HealthReport:
        """Ask the server."""
        began = time.perf_counter()
        status = self.pool_status()
        errors = self.clients.errors
        try:
            deployment = self.deployment
            await self.ping(access)
        except Base04Error as error:
            return health_report("unhealthy", str(error), connections=status["in_use"], errors=errors)
        kind = "with transactions" if deployment.transactions else "without transactions"
        return health_report(
            "healthy",
            f"{deployment.name} {deployment.version} answers, {kind}",
            connections=status["in_use"] + status["idle"],
            errors=errors,
            response_time=time.perf_counter() - began,
            waiting=status["waiting"],
        )

    def _guard(self) -> AbstractAsyncContextManager[None]:
        """Return what to hold while changing documents: a lock where the server's own updates are not atomic."""
        return nullcontext() if self.deployment.atomic_updates else self.lock("writes", self.settings.pool_timeout)

    async def _rows(self, database: AsyncDatabase[Document], table: str, find: Find) -> list[Document]:
        longest = max(1, round(self.settings.statement_timeout * 1000))
        async with (
            database[table]
            .find(find.filter, find.projection, skip=find.offset, limit=find.limit, sort=find.sort or None)
            .max_time_ms(longest) as cursor
        ):
            return await cursor.to_list()

    async def _declarations(self) -> Iterable[str]:
        find = Find({}, {"definition": 1}, [], 0, 0)
        return [document["definition"] for document in await self.rows(TABLES, find, "read_only")]

    async def _check_that_it_cannot_write(self) -> None:
        database = self.clients.database("read_only")
        rights = await self.clients.lane("read_only").call(lambda: rights_to_write(database))
        if rights:
            raise ConfigurationError(
                f"The user of read_only_url may write ({', '.join(rights)}): give it the role 'read' alone."
            )
        if rights is None:
            raise ConfigurationError(
                "The settings have a read_only_url, and the server knows no users, so it would not keep anybody from "
                "writing: switch access control on, or leave read_only_url out of the settings."
            )


class _Versions:
    """The stored versions of owners, and the lock of migrations."""

    def __init__(self, core: MongoCore) -> None:
        self._core = core

    async def version(self, owner: str) -> int:
        found = await self._core.rows(VERSIONS, Find({"_id": owner}, None, [], 0, 1), "read_write")
        return int(found[0]["version"]) if found else 0

    async def record(self, owner: str, version: int) -> None:
        lane = self._core.clients.lane("read_write")
        try:
            await lane.call(lambda: self._record(owner, version), sent=lambda: True)
        except Conflict as error:
            raise ManagerError(
                f"The stored version of {owner!r} changed while it was migrated: another process took the lock over."
            ) from error

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        async with self._core.lock("migrations", self._core.settings.migration_timeout):
            yield

    async def _record(self, owner: str, version: int) -> None:
        versions = self._core.clients.database("read_write")[VERSIONS]
        if version == 1:
            await versions.insert_one({"_id": owner, "version": 1})
            return
        done = await versions.update_one({"_id": owner, "version": version - 1}, {"$set": {"version": version}})
        if done.matched_count != 1:
            raise Conflict(f"The stored version of {owner!r} is not {version - 1}.")


async def _guarded(guard: AbstractAsyncContextManager[None], step: Any, *arguments: Any) -> Any:
    async with guard:
        return await step(*arguments)
