"""The provider ``sqlite``: one file, one writer thread, a few reading ones."""

from base04_builtin.database.sqlite.manager import SqliteDatabaseManager
from base04_builtin.database.sqlite.settings import SqliteSettings

__all__ = ["SqliteDatabaseManager", "SqliteSettings"]
