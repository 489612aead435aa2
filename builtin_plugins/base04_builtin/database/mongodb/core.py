"""What views of one MongoDB share: clients, declarations, locks."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, Final, TypeVar

import structlog
from pymongo import ASCENDING, AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from base04_builtin.database.migration import Migrator
from base04_builtin.database.mongodb import transactions
from base04_builtin.database.mongodb.catalogue import DocumentCatalogue
from base04_builtin.database.mongodb.deployment import Deployment, examine, rights_to_write
from base04_builtin.database.mongodb.documents import Change, Find
from base04_builtin.database.mongodb.errors import DRIVER_ERRORS, clear_errors, translated
from base04_builtin.database.mongodb.lease import LOCKS, LeaseLock
from base04_builtin.database.mongodb.pool import PoolCounter, total
from base04_builtin.database.mongodb.settings import MongoSettings
from base04_builtin.database.schema import dumped, loaded, merged
from base04_hookspecs import AccessRole, HealthReport, health_report
from base04_hookspecs.database import PoolStatus, TableSchema
from base04_hookspecs.errors import (
    Base04Error,
    ConfigurationError,
    Conflict,
    InvalidInput,
    ManagerError,
    ManagerUnavailable,
    OutcomeUnknown,
)

T = TypeVar("T")

TABLES: Final = "_base04_tables"
VERSIONS: Final = "_base04_versions"
_DEFAULT_DATABASE: Final = "base04"
_NOT_IMPLEMENTED: Final = 238

log = structlog.get_logger()


class MongoCore:
    """Everything that talks to the server, each call within ``statement_timeout``."""

    def __init__(self, settings: MongoSettings) -> None:
        self.settings = settings
        self.catalogue = DocumentCatalogue(settings.max_value_bytes, self._declarations)
        self.migrator = Migrator(_Versions(self))
        self._clients: dict[str, AsyncMongoClient[dict[str, Any]]] = {}
        self._counters: dict[str, PoolCounter] = {}
        self._deployment: Deployment | None = None
        self._locks: dict[str, LeaseLock] = {}
        self._errors = 0

    async def start(self) -> None:
        """Connect with every address that the settings name, and find out what answers."""
        given = {"read_write": self.settings.url}
        for role in ("read_only", "admin"):
            own = getattr(self.settings, role)
            if own is not None:
                given[role] = own.url
        with clear_errors(writes=False):
            for role, url in given.items():
                self._counters[role] = PoolCounter(self.settings.pool_size)
                options = {**self.settings.client_options(), "event_listeners": [self._counters[role]]}
                self._clients[role] = AsyncMongoClient(url.get_secret_value(), **options)
        self._deployment = await self.bounded(examine(self.database("read_write")))
        if "admin" in given:
            await self.bounded(self.database("admin").command("ping"))
        if "read_only" in given:
            await self._check_that_it_cannot_write()
        log.debug(
            "connected to the database",
            server=f"{self.deployment.name} {self.deployment.version}",
            transactions=self.deployment.transactions,
        )

    async def stop(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.close()

    @property
    def deployment(self) -> Deployment:
        """What answers.

        Raises:
            ManagerUnavailable: the manager has not started.
        """
        if self._deployment is None:
            raise ManagerUnavailable("The database manager has not started.")
        return self._deployment

    def has_own_user(self, access: AccessRole) -> bool:
        """Tell whether an access role connects as a user of its own."""
        return access in self._clients

    def database(self, access: AccessRole) -> AsyncDatabase[dict[str, Any]]:
        """Return the database as an access role sees it."""
        client = self._clients.get(access) or self._clients.get("read_write")
        if client is None:
            raise ManagerUnavailable("The database manager has not started.")
        if self.settings.database is not None:
            return client[self.settings.database]
        return client.get_default_database(_DEFAULT_DATABASE)

    async def bounded(self, asking: Coroutine[Any, Any, T], sent: Callable[[], bool] = bool) -> T:
        """Await an answer; ``sent`` tells, when there is none in time or the connection breaks, if a change was sent.

        Raises:
            ManagerUnavailable: there is none, and nothing was changed.
            OutcomeUnknown: there is none, and something may have been changed.
        """
        limit = asyncio.timeout(self.settings.statement_timeout)
        try:
            async with limit:
                return await asking
        except DRIVER_ERRORS as error:
            self._errors += 1
            raise translated(error, writes=sent()) from error
        except TimeoutError as error:
            self._errors += 1
            text = f"The database did not answer within {self.settings.statement_timeout:g} s (statement_timeout)."
            raise (OutcomeUnknown if sent() else ManagerUnavailable)(text) from error
        except (ManagerUnavailable, OutcomeUnknown):
            self._errors += 1
            raise

    async def rows(self, table: str, find: Find, access: AccessRole) -> list[dict[str, Any]]:
        """Read documents."""
        return await self.bounded(self._rows(self.database(access)[table], find))

    async def count(self, table: str, filter: dict[str, Any], access: AccessRole) -> int:
        """Count documents."""
        return await self.bounded(self.database(access)[table].count_documents(filter))

    async def transaction(self, changes: Sequence[Change], access: AccessRole) -> bool:
        """Carry out all changes or none, as the server allows; see ``transactions``."""
        database, deployment = self.database(access), self.deployment
        committing = asyncio.Event()
        if not transactions.needs_transaction(changes):
            committing.set()
            guard = nullcontext() if changes[0].kind == "insert" else self.guard()
            await self.bounded(_guarded(guard, transactions.at_once(database, changes[0])), committing.is_set)
        elif deployment.transactions:
            await self.bounded(transactions.in_session(database, changes, committing), committing.is_set)
        elif self.settings.single_document_atomicity:
            committing.set()
            await self.bounded(_guarded(self.guard(), transactions.in_order(database, changes)), committing.is_set)
        else:
            raise transactions.not_supported()
        return True

    def guard(self) -> AbstractAsyncContextManager[None]:
        """Return what to hold while changing documents: a lock where the server's own updates are not atomic."""
        return nullcontext() if self.deployment.atomic_updates else self._lock("writes", self.settings.pool_timeout)

    async def ensure_table(self, table: TableSchema, access: AccessRole) -> TableSchema:
        """Declare a table and make its indexes; return its whole schema."""
        if any(column.name == "_id" for column in table.columns):
            raise InvalidInput(f"The table {table.name!r} has a column '_id', which is MongoDB's own: rename it.")
        database = self.database("admin" if access == "read_write" and self.has_own_user("admin") else access)
        with clear_errors(writes=True):
            async with self._lock("tables", self.settings.migration_timeout):
                stored = await database[TABLES].find_one({"_id": table.name})
                schema = merged(loaded(stored["definition"]) if stored else None, table)
                await self._make_indexes(database[table.name], schema)
                if stored is None or stored["definition"] != dumped(schema):
                    await self._declare(database, schema, existed=stored is not None)
        return schema

    def migration_lock(self) -> AbstractAsyncContextManager[None]:
        """Return the lock that migrations run under."""
        return self._lock("migrations", self.settings.migration_timeout)

    def pool_status(self) -> PoolStatus:
        """Return the use of all connections."""
        return total(self._counters.values())

    async def health(self, access: AccessRole) -> HealthReport:
        """Ask the server."""
        began = time.perf_counter()
        status = self.pool_status()
        try:
            deployment = self.deployment
            await self.bounded(self.database(access).command("ping"))
        except Base04Error as error:
            return health_report("unhealthy", str(error), connections=status["in_use"], errors=self._errors)
        kind = "with transactions" if deployment.transactions else "without transactions"
        return health_report(
            "healthy",
            f"{deployment.name} {deployment.version} answers, {kind}",
            connections=status["in_use"] + status["idle"],
            errors=self._errors,
            response_time=time.perf_counter() - began,
            waiting=status["waiting"],
        )

    async def _rows(self, collection: AsyncCollection[dict[str, Any]], find: Find) -> list[dict[str, Any]]:
        longest = max(1, round(self.settings.statement_timeout * 1000))
        async with collection.find(
            find.filter, find.projection, skip=find.offset, limit=find.limit, sort=find.sort or None
        ).max_time_ms(longest) as cursor:
            return await cursor.to_list()

    async def _declarations(self) -> Iterable[str]:
        find = Find({}, {"definition": 1}, [], 0, 0)
        return [document["definition"] for document in await self.rows(TABLES, find, "read_only")]

    async def _declare(self, database: AsyncDatabase[dict[str, Any]], schema: TableSchema, *, existed: bool) -> None:
        definition = {"definition": dumped(schema)}
        if existed:
            await database[TABLES].update_one({"_id": schema.name}, {"$set": definition})
        else:
            await database[TABLES].insert_one({"_id": schema.name, **definition})

    async def _make_indexes(self, collection: AsyncCollection[dict[str, Any]], schema: TableSchema) -> None:
        nullable = {column.name for column in schema.columns if column.nullable}
        for key in (schema.primary_key, *schema.unique):
            keys = [(name, ASCENDING) for name in key]
            partial = {name: {"$exists": True} for name in key if name in nullable}
            name = _index_name("unique", key)
            if not partial:
                await collection.create_index(keys, name=name, unique=True)
                continue
            try:
                await collection.create_index(keys, name=name, unique=True, partialFilterExpression=partial)
            except OperationFailure as error:
                if error.code != _NOT_IMPLEMENTED:
                    raise
                await collection.create_index(keys, name=name, unique=True, sparse=True)
        for key in schema.indexes:
            await collection.create_index([(name, ASCENDING) for name in key], name=_index_name("index", key))

    async def _check_that_it_cannot_write(self) -> None:
        rights = await self.bounded(rights_to_write(self.database("read_only")))
        if rights:
            raise ConfigurationError(
                f"The user of read_only may write ({', '.join(rights)}): give it the role 'read' alone."
            )
        if rights is None:
            raise ConfigurationError(
                "The settings have an address for read_only, and the server knows no users, so it would not keep "
                "anybody from writing: switch access control on, or leave read_only out of the settings."
            )

    def _lock(self, name: str, timeout_s: float) -> AbstractAsyncContextManager[None]:
        if name not in self._locks:
            locks = self.database("read_write")[LOCKS]
            self._locks[name] = LeaseLock(locks, name, lease_s=self.settings.lease, timeout_s=timeout_s)
        return self._locks[name].held()


class _Versions:
    """The stored versions of owners, and the lock of migrations."""

    def __init__(self, core: MongoCore) -> None:
        self._core = core

    async def version(self, owner: str) -> int:
        found = await self._core.rows(VERSIONS, Find({"_id": owner}, None, [], 0, 1), "read_write")
        return int(found[0]["version"]) if found else 0

    async def record(self, owner: str, version: int) -> None:
        try:
            await self._core.bounded(self._record(owner, version), lambda: True)
        except Conflict as error:
            raise ManagerError(
                f"The stored version of {owner!r} changed while it was migrated: another process took the lock over."
            ) from error

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        with clear_errors(writes=True):
            async with self._core.migration_lock():
                yield

    async def _record(self, owner: str, version: int) -> None:
        versions = self._core.database("read_write")[VERSIONS]
        if version == 1:
            await versions.insert_one({"_id": owner, "version": 1})
            return
        done = await versions.update_one({"_id": owner, "version": version - 1}, {"$set": {"version": version}})
        if done.matched_count != 1:
            raise Conflict(f"The stored version of {owner!r} is not {version - 1}.")


async def _guarded(guard: AbstractAsyncContextManager[None], doing: Coroutine[Any, Any, T]) -> T:
    try:
        async with guard:
            return await doing
    finally:
        doing.close()


def _index_name(kind: str, key: Sequence[str]) -> str:
    """Return a name that is the same each time, and short enough for every server."""
    name = f"base04_{kind}_{'_'.join(key)}"
    return name if len(name) <= 100 else f"{name[:80]}_{hashlib.sha256(name.encode()).hexdigest()[:16]}"
