"""From the driver's errors to those of the contract."""

from __future__ import annotations

import sqlite3
from typing import Final

from base04_hookspecs.errors import Conflict, InvalidInput, ManagerError, ManagerUnavailable, NotSupported

_UNAVAILABLE: Final = {
    sqlite3.SQLITE_BUSY: "another process keeps the database locked (busy_timeout has passed)",
    sqlite3.SQLITE_LOCKED: "the database is locked",
    sqlite3.SQLITE_PROTOCOL: "the locks of the database could not be taken",
    sqlite3.SQLITE_FULL: "there is no room left on the disk; free some",
    sqlite3.SQLITE_IOERR: "the disk reported an error",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened; check that it and its folder are there and may be written",
    sqlite3.SQLITE_NOMEM: "there is not enough memory",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore it from a backup",
    sqlite3.SQLITE_NOTADB: "the file is not a SQLite database",
    sqlite3.SQLITE_PERM: "the file may not be opened",
    sqlite3.SQLITE_INTERRUPT: "the statement took longer than statement_timeout and was interrupted",
}
_BROKEN: Final = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOMEM,
    }
)


def primary_code(error: BaseException) -> int | None:
    """Return SQLite's primary result code, None where the driver itself raised."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def breaks_connection(error: BaseException) -> bool:
    """Tell whether a connection should be opened anew after the error."""
    return primary_code(error) in _BROKEN


def translated(error: Exception, *, writable: bool) -> ManagerError:
    """Return the contract's error for one that the driver raised. Raise it ``from`` the original."""
    code = primary_code(error)
    if code in _UNAVAILABLE:
        return ManagerUnavailable(f"The database is not available: {_UNAVAILABLE[code]}.")
    if code == sqlite3.SQLITE_CONSTRAINT:
        return Conflict(f"The database refuses the change: {_text(error)}.")
    if code == sqlite3.SQLITE_READONLY:
        if writable or getattr(error, "sqlite_errorcode", code) != sqlite3.SQLITE_READONLY:
            return ManagerUnavailable("The database is not available: the file may not be written.")
        return NotSupported("The statement writes, and this access is read-only: use the read_write access.")
    if code == sqlite3.SQLITE_AUTH:
        return InvalidInput(
            "The statement is not accepted: transactions, ATTACH, temporary objects and settings (PRAGMA) belong to "
            "the manager. Use execute_transaction for several changes at once."
        )
    return InvalidInput(f"The statement is not valid: {_text(error)}.")


def _text(error: Exception) -> str:
    return str(error).rstrip(".")
