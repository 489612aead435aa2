"""The manager of the provider ``postgresql``."""

from __future__ import annotations

from base04_builtin.database.postgresql.core import PostgresCore
from base04_builtin.database.postgresql.settings import PostgresSettings
from base04_builtin.database.sql_access import SqlAccess


class PostgresDatabaseManager(SqlAccess):
    """A database on a PostgreSQL server.

    SQLAlchemy compiles the statements, once for each shape, and asyncpg carries them out. A transaction is run again,
    as a whole, after a serialisation failure, a deadlock, or a connection that was lost before the commit; when it was
    lost during the commit, ``OutcomeUnknown`` says so. A transaction of one operation commits with its statement.

    ``execute_query`` returns dates and times as ISO text, moments (``timestamptz``) and intervals as seconds,
    ``numeric`` as numbers and ``json`` decoded; of all but the last it takes the same.
    """

    def __init__(self, settings: PostgresSettings) -> None:
        self._server = PostgresCore(settings)
        super().__init__(self._server)

    async def start(self) -> None:
        """Log in, with each set of credentials that the settings have.

        Raises:
            ConfigurationError: the server refuses us; trying again would not help.
            ManagerUnavailable: the server cannot be reached just now.
        """
        await self._server.open()

    async def stop(self) -> None:
        """Let what was begun finish, for a moment, and close all connections."""
        await self._server.close()
