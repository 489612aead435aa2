"""The manager of the provider ``sqlite``."""

from __future__ import annotations

from base04_builtin.database.sql_access import SqlAccess
from base04_builtin.database.sqlite.core import SqliteCore
from base04_builtin.database.sqlite.settings import SqliteSettings


class SqliteDatabaseManager(SqlAccess):
    """A database in one file.

    A whole transaction is one hop to the writing thread; reads go to a few read-only connections, which see what has
    been committed. ``execute_query`` returns values as SQLite stores them, ``find`` as their columns were declared.
    """

    def __init__(self, settings: SqliteSettings) -> None:
        self._file = SqliteCore(settings)
        super().__init__(self._file)

    async def start(self) -> None:
        """Make the file where missing and open it.

        Raises:
            ConfigurationError: the file or its folder cannot be made.
            ManagerUnavailable: the file cannot be used just now.
        """
        await self._file.open()

    async def stop(self) -> None:
        """Finish what was begun and close all connections."""
        await self._file.close()
