"""From the driver's errors to those of the contract. Messages of the server about values are left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bson.errors import BSONError
from pymongo import errors

from base04_hookspecs.errors import (
    Base04Error,
    ConfigurationError,
    Conflict,
    InvalidInput,
    ManagerError,
    ManagerUnavailable,
    NotSupported,
    OutcomeUnknown,
)

_UNAUTHORIZED: Final = 13
_AUTHENTICATION_FAILED: Final = frozenset({18, 8000})
_UNAVAILABLE: Final = frozenset({6, 7, 11600, 11602, 89, 91, 189, 9001, 50, 262})
_CONFLICTS: Final = frozenset({112, 11000, 11001, 12582})
_UNSENT: Final = re.compile(r"connection refused|name or service not known|no address associated", re.IGNORECASE)
_PASSWORD: Final = re.compile(r"//[^/@\s]+@")

DRIVER_ERRORS: Final = (errors.PyMongoError, BSONError, OverflowError)
"""What pymongo and bson raise; an ``OverflowError`` for an integer of more than 64 bits."""


@contextmanager
def clear_errors(*, writes: bool) -> Iterator[None]:
    """Raise the contract's errors instead of the driver's; see ``translated``."""
    try:
        yield
    except DRIVER_ERRORS as error:
        raise translated(error, writes=writes) from error


def translated(error: Exception, *, writes: bool) -> Base04Error:
    """Return the contract's error for one of the driver. Raise it ``from`` the original.

    Args:
        error: what the driver raised.
        writes: whether a change was asked for, so that a lost reply leaves it open whether it was made.
    """
    if isinstance(error, errors.WaitQueueTimeoutError):
        return ManagerUnavailable("No connection to the database became free in time (pool_timeout has passed).")
    if isinstance(error, errors.ConnectionFailure):
        return _unreachable(error, writes)
    if isinstance(error, errors.OperationFailure):
        return _refused(error, writes)
    if isinstance(error, errors.ConfigurationError):
        return ConfigurationError(f"The database cannot be used as it is configured: {_text(error)}.")
    if isinstance(error, errors.InvalidOperation):
        return ManagerUnavailable("The connections to the database have been closed: the manager has stopped.")
    if isinstance(error, BSONError | OverflowError):
        return InvalidInput(f"The database cannot take this: {_text(error)}.")
    return ManagerError(f"The database failed: {type(error).__name__}.")


def _unreachable(error: errors.ConnectionFailure, writes: bool) -> Base04Error:
    text = _text(error)
    if "CERTIFICATE_VERIFY_FAILED" in text or "certificate verify failed" in text:
        return ConfigurationError("The certificate of the database is not trusted: name its authority as 'ca'.")
    selecting = isinstance(error, errors.ServerSelectionTimeoutError | errors.NotPrimaryError)
    if writes and not selecting and not _UNSENT.search(text):
        return OutcomeUnknown(f"The connection to the database broke while it was being changed: {text}.")
    return ManagerUnavailable(f"The database cannot be reached: {text}.")


def _refused(error: errors.OperationFailure, writes: bool) -> Base04Error:
    code = error.code or 0
    if code in _CONFLICTS:
        return Conflict("The database refuses the change: another row has the same key, or changed at the same moment.")
    if code in _AUTHENTICATION_FAILED:
        return ConfigurationError("The database does not accept the user and the password of the settings.")
    if code == _UNAUTHORIZED:
        return NotSupported("The database does not allow this to the user of this access role.")
    if code in _UNAVAILABLE or isinstance(error, errors.ExecutionTimeout):
        return ManagerUnavailable(f"The database is not available: {_text(error)}.")
    if writes and isinstance(error, errors.WriteConcernError):
        return OutcomeUnknown("The database made the change and could not confirm that it is kept by a majority.")
    return InvalidInput(f"The database does not accept this: {_text(error)}.")


def _text(error: BaseException) -> str:
    """Return what the driver says, without the reply of the server, which repeats values, and without credentials."""
    text = str(error).partition(", full error")[0].partition(", Timeout:")[0].partition(" (configured timeouts")[0]
    text = text.partition(" dup key:")[0].partition(", Topology Description")[0]
    return _PASSWORD.sub("//***@", " ".join(text.split()))[:300].rstrip(".")
