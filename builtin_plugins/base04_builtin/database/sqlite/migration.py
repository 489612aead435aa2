"""Migrations: steps of a role's stored schema, run once whoever starts at the same time."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import structlog

from base04_builtin.database.requests import Query, Step, Transaction
from base04_builtin.database.sqlite.lane import Lane
from base04_builtin.database.sqlite.tables import VERSIONS
from base04_hookspecs.database import DatabaseManager, Migration
from base04_hookspecs.errors import ConfigurationError, InvalidInput, ManagerUnavailable

log = structlog.get_logger()

_POLL: Final = 0.02


class Migrator:
    """Runs migrations under a lock that other processes respect.

    The lock is an ``flock`` on a file beside the database: the system releases it when its holder dies, however it
    dies, so that no expiry has to be guessed. Inside a process, an asyncio lock comes first.

    Args:
        path: the database file.
        readers, writer: the lanes that carry out statements.
        timeout_s: how long to wait for another process.
    """

    def __init__(self, path: Path, readers: Lane, writer: Lane, timeout_s: float) -> None:
        self._lock_path = path.with_name(f"{path.name}.migration-lock")
        self._readers = readers
        self._writer = writer
        self._timeout_s = timeout_s
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
        async with self._lock, self._between_processes():
            done = await self._version(owner, len(migrations))
            for version in range(done + 1, len(migrations) + 1):
                await migrations[version - 1](database)
                await self._record(owner, version)
                log.info("stored schema migrated", owner=owner, version=version)
        return len(migrations)

    async def _version(self, owner: str, known: int) -> int:
        rows = await self._readers.submit(
            Query(f"SELECT version FROM {VERSIONS} WHERE owner = ?", (owner,))  # noqa: S608 - a constant
        )
        version: int = rows[0]["version"] if rows else 0
        if version > known:
            raise ConfigurationError(
                f"The stored schema of {owner!r} has version {version}, and this code knows only {known}: a newer "
                "release has been here. Start that release, or restore a backup from before it."
            )
        return version

    async def _record(self, owner: str, version: int) -> None:
        place = f"that records version {version} of {owner!r}"
        insert = Step(
            f"INSERT INTO {VERSIONS} (owner, version) VALUES (?, ?)",  # noqa: S608 - a constant
            (owner, version),
            place,
            expect=1,
        )
        update = Step(
            f"UPDATE {VERSIONS} SET version = ? WHERE owner = ? AND version = ?",  # noqa: S608 - a constant
            (version, owner, version - 1),
            place,
            expect=1,
        )
        await self._writer.submit(Transaction((insert if version == 1 else update,), own=True))

    @asynccontextmanager
    async def _between_processes(self) -> AsyncIterator[None]:
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            await self._locked(descriptor)
            self._holder = asyncio.current_task()
            yield
        finally:
            self._holder = None
            os.close(descriptor)

    async def _locked(self, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if loop.time() > deadline:
                    raise ManagerUnavailable(
                        f"Another process has been migrating the database for more than {self._timeout_s} seconds: "
                        f"see which one holds {self._lock_path.name!r}."
                    ) from None
                await asyncio.sleep(_POLL)
            else:
                return
