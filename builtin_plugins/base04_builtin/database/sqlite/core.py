"""What all views of one database share: its file, lanes, catalogue and migrations."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from base04_builtin.database.requests import Query, Step, Transaction
from base04_builtin.database.sqlite.lane import Lane
from base04_builtin.database.sqlite.migration import Migrator
from base04_builtin.database.sqlite.session import SqliteSession
from base04_builtin.database.sqlite.settings import SqliteSettings
from base04_builtin.database.sqlite.tables import CATALOGUE, OWN_TABLES, VERSIONS
from base04_hookspecs import HealthReport, HealthStatus, health_report
from base04_hookspecs.database import TableSchema
from base04_hookspecs.errors import ConfigurationError, ManagerUnavailable

if TYPE_CHECKING:
    from base04_builtin.database.sqlite.catalogue import Catalogue

_KNOWN: Final = 2048


class SqliteCore:
    """One database file and everything that is open for it."""

    def __init__(self, settings: SqliteSettings) -> None:
        self.settings = settings
        self.path = Path(settings.path).absolute()
        self.readers = Lane("reading", settings.readers, self._open_reader, settings.pool_timeout)
        self.writer = Lane("writing", 1, self._open_writer, settings.pool_timeout)
        self.migrator = Migrator(self.path, self.readers, self.writer, settings.migration_timeout)
        self.known_to_write: dict[str, None] = {}
        self._declared: list[TableSchema] = []
        self._catalogue: Catalogue | None = None
        self._inode = 0

    async def open(self) -> None:
        """Make the file where missing, open the writing connection and make the manager's own tables.

        Raises:
            ConfigurationError: the file or its folder cannot be made.
            ManagerUnavailable: the file cannot be used just now.
        """
        self._inode = await asyncio.to_thread(_create_private, self.path)
        present = await self.writer.submit(
            Query("SELECT count(*) AS n FROM sqlite_master WHERE name IN (?, ?)", (CATALOGUE, VERSIONS))
        )
        if present[0]["n"] < len(OWN_TABLES):
            steps = tuple(Step(sql, (), "that makes the manager's own tables") for sql in OWN_TABLES)
            await self.writer.submit(Transaction(steps, own=True))

    async def close(self) -> None:
        """Finish what was begun and close everything: readers first, so that the writer's close empties the log."""
        try:
            await self.readers.close()
        finally:
            await self.writer.close()

    async def catalogue(self) -> Catalogue:
        """Return the declarations of tables. The planner must have been loaded."""
        if self._catalogue is None:
            from base04_builtin.database.sqlite.catalogue import Catalogue

            self._catalogue = Catalogue(self.readers, self.settings.max_value_bytes)
            for table in self._declared:
                self._catalogue.remember(table)
        return self._catalogue

    def declared(self, table: TableSchema) -> None:
        """Take note of a table that was just declared."""
        if self._catalogue is None:
            self._declared.append(table)
        else:
            self._catalogue.remember(table)

    def remember_write(self, sql: str) -> None:
        """Remember that a statement writes, so that it goes straight to the writer the next time."""
        if len(self.known_to_write) >= _KNOWN:
            self.known_to_write.pop(next(iter(self.known_to_write)), None)
        self.known_to_write[sql] = None

    async def health(self) -> HealthReport:
        """Ask the file, and report."""
        began = time.perf_counter()
        errors = self.readers.unavailable + self.writer.unavailable
        try:
            await self.readers.submit(Query("SELECT count(*) AS n FROM sqlite_master"))
            size, log_size, same = await asyncio.to_thread(self._sizes)
        except (ManagerUnavailable, OSError) as error:
            return health_report("unhealthy", str(error), errors=errors + 1)
        took = time.perf_counter() - began
        status, details = self._verdict(same)
        return health_report(
            status,
            details,
            connections=self.readers.open + self.writer.open,
            errors=errors,
            response_time=took,
            size_bytes=size,
            log_bytes=log_size,
            waiting=self.readers.waiting + self.writer.waiting,
        )

    def _verdict(self, same_file: bool) -> tuple[HealthStatus, str]:
        if not same_file:
            return "unhealthy", "the database file was replaced while it was open; restart the host"
        if self.writer.failing is not None:
            return "degraded", f"the last change failed: {self.writer.failing}"
        return "healthy", "the file answers"

    def _sizes(self) -> tuple[int, int, bool]:
        there = self.path.stat()
        write_ahead_log = Path(f"{self.path}-wal")
        log_size = write_ahead_log.stat().st_size if write_ahead_log.exists() else 0
        return there.st_size, log_size, there.st_ino == self._inode

    def _open_reader(self) -> SqliteSession:
        return SqliteSession(self.settings, writable=False)

    def _open_writer(self) -> SqliteSession:
        return SqliteSession(self.settings, writable=True)


def _create_private(path: Path) -> int:
    """Make the file and its folder for the owner alone, and return its inode.

    SQLite gives the files that it puts beside it the same permissions.
    """
    try:
        if not path.parent.exists():
            path.parent.parent.mkdir(parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        return path.stat().st_ino
    except OSError as error:
        raise ConfigurationError(
            f"The database file {str(path)!r} cannot be made or written: {error.strerror}. "
            "Check its folder, or set managers.database.sqlite.path."
        ) from error
