"""The provider ``postgresql``: one server, a pool of connections for each set of credentials."""

from base04_builtin.database.postgresql.manager import PostgresDatabaseManager
from base04_builtin.database.postgresql.settings import PostgresSettings, TlsSettings

__all__ = ["PostgresDatabaseManager", "PostgresSettings", "TlsSettings"]
