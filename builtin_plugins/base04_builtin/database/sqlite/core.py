"""What all views of one database share: its file, lanes, catalogue and migrations."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any, Final

from base04_builtin.database.catalogue import Catalogue
from base04_builtin.database.ddl import CATALOGUE, VERSIONS
from base04_builtin.database.dialects import SQLITE
from base04_builtin.database.migration import Migrator
from base04_builtin.database.requests import EnsureTable, Query, Rows, Step, Transaction
from base04_builtin.database.sqlite.lane import Lane
from base04_builtin.database.sqlite.migration import SqliteMigrationStore
from base04_builtin.database.sqlite.session import SqliteSession
from base04_builtin.database.sqlite.settings import SqliteSettings
from base04_builtin.database.sqlite.tables import OWN_TABLES
from base04_hookspecs import AccessRole, HealthReport, HealthStatus, health_report
from base04_hookspecs.database import DatabaseManager, Migration, PoolStatus, TableSchema
from base04_hookspecs.errors import ConfigurationError, ManagerUnavailable, NotSupported

_KNOWN: Final = 2048


class SqliteCore:
    """One database file and everything that is open for it.

    ``admin`` may do what ``read_write`` may: a file has no users. ``read_only`` uses connections on which SQLite itself
    refuses every change.
    """

    dialect = SQLITE

    def __init__(self, settings: SqliteSettings) -> None:
        self.settings = settings
        self.max_value_bytes = settings.max_value_bytes
        self.path = Path(settings.path).absolute()
        self.readers = Lane("reading", settings.readers, self._open_reader, settings.pool_timeout)
        self.writer = Lane("writing", 1, self._open_writer, settings.pool_timeout, together=True)
        self.catalogue = Catalogue(SQLITE, settings.max_value_bytes, self._stored_tables)
        self._migrator = Migrator(
            SqliteMigrationStore(self.path, self.readers, self.writer, settings.migration_timeout)
        )
        self._known_to_write: dict[str, None] = {}
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

    async def query(self, query: Query, access: AccessRole) -> Any:
        """Run a statement on a read-only connection, and if SQLite says that it writes, on the writing one."""
        if access == "read_only" or query.sql not in self._known_to_write:
            try:
                return await self.readers.submit(query)
            except NotSupported:
                if access == "read_only":
                    raise
        result = await self.writer.submit(query)
        self._remember_write(query.sql)
        return result

    def rows(self, query: Query, access: AccessRole) -> Awaitable[Rows]:
        """Run a statement that reads."""
        return self.readers.submit(query)

    def transaction(self, steps: tuple[Step, ...], access: AccessRole) -> Awaitable[bool]:
        """Carry out all steps or none."""
        return self.writer.submit(Transaction(steps))

    async def ensure_table(self, table: TableSchema, access: AccessRole) -> TableSchema:
        """Create or complete a table."""
        schema: TableSchema = await self.writer.submit(EnsureTable(table))
        return schema

    async def migrate(self, database: DatabaseManager, owner: str, migrations: Sequence[Migration]) -> int:
        """Bring the stored schema of an owner up to date."""
        return await self._migrator.migrate(database, owner, migrations)

    async def answers(self, access: AccessRole) -> bool:
        """Tell whether the file can be read."""
        try:
            await self.readers.submit(Query("SELECT count(*) AS n FROM sqlite_master"))
        except ManagerUnavailable:
            return False
        return True

    def pool_status(self, access: AccessRole) -> PoolStatus:
        """Return the use of the reading connections and the writing one together."""
        lanes = (self.readers, self.writer)
        return {
            "size": sum(lane.size for lane in lanes),
            "in_use": sum(lane.in_use for lane in lanes),
            "idle": sum(lane.idle for lane in lanes),
            "waiting": sum(lane.waiting for lane in lanes),
        }

    async def _stored_tables(self) -> list[str]:
        rows = await self.readers.submit(Query(f"SELECT definition FROM {CATALOGUE}"))  # noqa: S608 - a constant
        return [row["definition"] for row in rows]

    def _remember_write(self, sql: str) -> None:
        if len(self._known_to_write) >= _KNOWN:
            self._known_to_write.pop(next(iter(self._known_to_write)), None)
        self._known_to_write[sql] = None

    async def health(self, access: AccessRole) -> HealthReport:
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
