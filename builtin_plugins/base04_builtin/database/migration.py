"""Migrations: steps of a role's stored schema, run once whoever starts at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import structlog

from base04_hookspecs.database import DatabaseManager, Migration
from base04_hookspecs.errors import ConfigurationError, InvalidInput

log = structlog.get_logger()


class MigrationStore(Protocol):
    """Where versions are kept, and the lock that other processes respect."""

    async def version(self, owner: str) -> int:
        """Return the stored version of an owner, 0 where there is none."""

    async def record(self, owner: str, version: int) -> None:
        """Store the version that follows the stored one; anything else there raises ``Conflict``."""

    def locked(self) -> AbstractAsyncContextManager[None]:
        """Hold the lock between processes. It is released when its holder dies, however it dies."""


class Migrator:
    """Runs migrations under a lock that other processes respect; inside a process, an asyncio lock comes first."""

    def __init__(self, store: MigrationStore) -> None:
        self._store = store
        self._lock = asyncio.Lock()
        self._holder: asyncio.Task[Any] | None = None

    async def migrate(self, database: DatabaseManager, owner: str, migrations: Sequence[Migration]) -> int:
        """Run the steps of an owner that have not run yet and return the version."""
        if not isinstance(owner, str) or not owner or "\0" in owner or len(owner) > 200:
            raise InvalidInput("The owner of migrations must be a name of 1 to 200 characters.")
        if await self._version(owner, len(migrations)) == len(migrations):
            return len(migrations)
        if self._holder is asyncio.current_task():
            raise ConfigurationError(
                f"A migration step started the migrations of {owner!r}, which would wait for itself: call migrate one "
                "after the other."
            )
        async with self._lock, self._held():
            done = await self._version(owner, len(migrations))
            for version in range(done + 1, len(migrations) + 1):
                await migrations[version - 1](database)
                await self._store.record(owner, version)
                log.debug("stored schema migrated", owner=owner, version=version)
        return len(migrations)

    async def _version(self, owner: str, known: int) -> int:
        version = await self._store.version(owner)
        if version > known:
            raise ConfigurationError(
                f"The stored schema of {owner!r} has version {version}, and this code knows only {known}: a newer "
                "release has been here. Start that release, or restore a backup from before it."
            )
        return version

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[None]:
        async with self._store.locked():
            self._holder = asyncio.current_task()
            try:
                yield
            finally:
                self._holder = None
