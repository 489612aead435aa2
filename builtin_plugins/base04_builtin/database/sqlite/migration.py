"""Versions of stored schemas in a SQLite file, and the lock between processes that migrate it."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from base04_builtin.database.ddl import VERSIONS
from base04_builtin.database.requests import Query, Step, Transaction
from base04_builtin.database.sqlite.lane import Lane
from base04_hookspecs.errors import ManagerUnavailable

_POLL: Final = 0.02


class SqliteMigrationStore:
    """Keeps versions in the file; the lock is an ``flock`` on a file beside it.

    The system releases that when its holder dies, so that no expiry has to be guessed.

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

    async def version(self, owner: str) -> int:
        """Return the stored version of an owner, 0 where there is none."""
        rows = await self._readers.submit(
            Query(f"SELECT version FROM {VERSIONS} WHERE owner = ?", (owner,))  # noqa: S608 - a constant
        )
        return int(rows[0]["version"]) if rows else 0

    async def record(self, owner: str, version: int) -> None:
        """Store the version that follows the stored one."""
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
    async def locked(self) -> AsyncIterator[None]:
        """Hold the lock between processes."""
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            await self._lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    async def _lock(self, descriptor: int) -> None:
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
