"""From the driver's errors to those of the contract."""

from __future__ import annotations

import re
import ssl
from typing import Final

from base04_builtin.database.postgresql.driver import STALE, InterfaceError, InternalClientError, PostgresError
from base04_hookspecs.errors import (
    Base04Error,
    ConfigurationError,
    Conflict,
    InvalidInput,
    ManagerError,
    ManagerUnavailable,
    NotSupported,
)

_AGAIN: Final = frozenset({"40001", "40P01"})
_ENDED: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25P04"})
_REFUSED: Final = {
    "28P01": "the password is wrong",
    "28000": "the user may not connect like that (pg_hba.conf)",
    "3D000": "there is no such database",
    "08P01": "it does not take our settings; behind PgBouncer, list them in ignore_startup_parameters",
    "22023": "it does not take one of our settings",
    "42704": "it does not know one of our settings",
    "42501": "the user may not use that database",
}
_UNAVAILABLE: Final = {
    "53100": "there is no room left on its disk",
    "53200": "it is out of memory",
    "53300": "it has no connection left",
    "57014": "the statement took longer than statement_timeout and was cancelled",
    "55P03": "a lock could not be had",
    "40001": "other transactions were in the way too often",
    "40P01": "other transactions were in the way too often (deadlock)",
}
_REASON: Final = re.compile(r"\((expected \w+, got \w+|value out of \w+ range)\)\Z")


class Restart(Exception):
    """The whole transaction must be run once more, for a reason that the server does not know."""


def sqlstate(error: BaseException) -> str:
    """Return the five characters by which the server names an error, "" where it did not come from the server."""
    return getattr(error, "sqlstate", None) or ""


def is_lost(error: BaseException) -> bool:
    """Tell whether the connection is gone, or goes with this error."""
    if isinstance(error, PostgresError):
        state = sqlstate(error)
        fatal = getattr(error, "severity_en", None) in ("FATAL", "PANIC")
        return fatal or state in _ENDED or state.startswith("08")
    if isinstance(error, TimeoutError | ValueError):  # a TimeoutError is an OSError
        return False
    return isinstance(error, (InterfaceError, InternalClientError, OSError))


def is_unsettled(error: BaseException) -> bool:
    """Tell whether the server may have done what it was told although this error came."""
    return is_lost(error) or isinstance(error, TimeoutError)


def asks_for_retry(error: BaseException) -> bool:
    """Tell whether the whole transaction should be run once more: the server says so, or it was never committed."""
    return sqlstate(error) in _AGAIN or is_lost(error) or is_stale(error) or isinstance(error, Restart)


def is_stale(error: BaseException) -> bool:
    """Tell whether a prepared statement was made for a table that has changed since."""
    return isinstance(error, STALE)


def translated(error: Exception, *, read_only: bool, place: str = "") -> ManagerError:
    """Return the contract's error for one that the driver raised. Raise it ``from`` the original.

    Args:
        error: what the driver raised.
        read_only: whether the access role was read-only.
        place: which operation of a transaction it was, for messages.
    """
    if isinstance(error, ManagerError):
        return error
    if is_lost(error):
        return ManagerUnavailable("The database is not available: the connection to PostgreSQL was lost.")
    if isinstance(error, TimeoutError):
        return ManagerUnavailable("The database is not available: PostgreSQL did not answer in time.")
    if isinstance(error, Restart):
        return ManagerUnavailable("The database is not available: other transactions were in the way too often.")
    if not isinstance(error, PostgresError) or _is_misfit(error):
        return InvalidInput(f"{_subject(place)} {_misfit(error)}.")
    return _by_state(error, sqlstate(error), read_only, place)


def _by_state(error: Exception, state: str, read_only: bool, place: str) -> ManagerError:
    if state == "23502":
        return InvalidInput(f"{_subject(place)} is refused: {_text(error)}.")
    if state.startswith("23"):
        return Conflict(f"{_subject(place)} is refused: {_text(error)}.")
    if state == "25006":
        if read_only:
            return NotSupported("The statement writes, and this access is read-only: use the read_write access.")
        return ManagerUnavailable("The database is not available: the server takes no changes just now (a standby).")
    if state == "42501":
        return NotSupported(f"The database user may not do this: {_text(error)}.")
    if state in _UNAVAILABLE:
        return ManagerUnavailable(f"The database is not available: {_UNAVAILABLE[state]}.")
    if state.startswith(("53", "57", "58", "XX")):
        return ManagerUnavailable(f"The database is not available: {_text(error)}.")
    return InvalidInput(f"{_subject(place)} is not valid: {_text(error)}.")


def connecting(error: Exception, where: str) -> Base04Error:
    """Return the error for a connection that could not be opened; trying again helps where it is ManagerUnavailable.

    Messages of the driver about the URL are left out: they may quote a part of the password.
    """
    if isinstance(error, PostgresError):
        reason = _REFUSED.get(sqlstate(error))
        if reason is not None:
            return ConfigurationError(f"PostgreSQL at {where} refuses us: {reason}. It says: {_text(error)}.")
        return ManagerUnavailable(f"PostgreSQL at {where} refuses us just now: {_text(error)}.")
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConfigurationError(
            f"The certificate of PostgreSQL at {where} is not trusted: {error.verify_message}. "
            "Check tls.ca and the host name in the URL."
        )
    if isinstance(error, ssl.SSLError):
        return ConfigurationError(f"PostgreSQL at {where} and we cannot agree on TLS: {error.reason}.")
    if isinstance(error, ConnectionError) and "rejected SSL upgrade" in str(error):
        return ConfigurationError(f"PostgreSQL at {where} does not speak TLS, and the settings demand it.")
    if isinstance(error, TimeoutError):
        return ManagerUnavailable(f"PostgreSQL at {where} did not let us in within connect_timeout.")
    if isinstance(error, OSError):
        return ManagerUnavailable(f"PostgreSQL at {where} cannot be reached: {error.strerror or 'connection refused'}.")
    if isinstance(error, ValueError):
        return ConfigurationError(f"The URL or the TLS settings for PostgreSQL at {where} cannot be used.")
    return ManagerUnavailable(f"PostgreSQL at {where} cannot be used: {type(error).__name__}.")


def _subject(place: str) -> str:
    return f"The operation {place}" if place else "The statement"


def _text(error: Exception) -> str:
    return str(error.args[0] if error.args else error).rstrip(".")


def _is_misfit(error: Exception) -> bool:
    """Tell whether the driver itself found that a value does not fit, before anything was sent."""
    return str(error).startswith("invalid input for query argument")


def _misfit(error: Exception) -> str:
    """Say why a value does not fit, without the value, which the driver would quote."""
    reason = _REASON.search(str(error)) if isinstance(error, (PostgresError, InterfaceError)) else None
    return "is given a value that the server does not take there" + (f" ({reason[1]})" if reason is not None else "")
