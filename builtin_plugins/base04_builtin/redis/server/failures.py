"""What goes wrong between us and a server, and whether the server can have acted."""

from __future__ import annotations

import ssl
from typing import Final

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from base04_hookspecs.errors import ConfigurationError, ManagerError, ManagerUnavailable

_PASSING: Final = (BusyLoadingError, ClusterDownError, MasterDownError, TryAgainError, ReadOnlyError)


class NotSent(Exception):
    """The command never left, so that trying again is safe, whatever it is."""


class PoolExhausted(NotSent):
    """All connections were in use for longer than a call waits for one."""


class Lost(Exception):
    """The command left and no reply came: the server may or may not have acted."""


def is_reply(error: BaseException) -> bool:
    """Tell whether an error is what the server answered, rather than what became of the connection."""
    return isinstance(error, ResponseError) or (
        isinstance(error, RedisConnectionError) and getattr(error, "status_code", None) is not None
    )


def is_passing(error: BaseException) -> bool:
    """Tell whether an answer says: not just now, and nothing has been done."""
    if isinstance(error, _PASSING):
        return True
    # Before version 7 an error inside a script comes with another code ahead of its own.
    return str(error).startswith("BUSY Redis") or "-READONLY " in str(error)


def refusal(error: BaseException | None) -> str | None:
    """Return why the server, or we, refuse to talk for good; None where trying again makes sense."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted ({error.verify_message}); see 'tls.ca' and the host in the URL"
        if isinstance(error, ssl.SSLError):
            return f"TLS cannot be agreed upon ({error.reason or 'no reason given'}); see 'tls' and the URL's scheme"
        if isinstance(error, (AuthenticationError, AuthorizationError, NoPermissionError)):
            return f"it does not accept who we say we are ({error}); see 'username' and 'password'"
        if isinstance(error, ConfigurationError):
            return str(error)
        error = error.__cause__ or error.__context__
    return None


def unavailable(where: object, error: BaseException) -> ManagerUnavailable:
    """Return the error for a server that cannot be reached or cannot answer just now."""
    server = _server(where)
    reason = refusal(error)
    if reason is not None:
        return ManagerUnavailable(f"{server} cannot be used: {reason}.", retry_after=5.0)
    if isinstance(error, OutOfMemoryError):
        return ManagerUnavailable(f"{server} has no room: it has reached its 'maxmemory'.")
    return ManagerUnavailable(f"{server} cannot be reached: {told(error)}")


def answered(where: object, error: RedisError) -> ManagerError:
    """Return the error for a reply that says no for good."""
    text = str(error)
    if isinstance(error, OutOfMemoryError) or "-OOM " in text:
        return unavailable(where, OutOfMemoryError())
    if "WRONGTYPE " in text:
        return ManagerError("There is something else than a JSON value at the key: another program must have put it.")
    if isinstance(error, (AuthenticationError, AuthorizationError, AskError)):
        return unavailable(where, error)
    return ManagerError(f"{_server(where)} refused: {text}")


def _server(where: object) -> str:
    return f"The Redis server {where}" if where else "The Redis server"


def told(error: BaseException) -> str:
    """Return the reason of a failure as the end of a sentence."""
    if isinstance(error, (NotSent, Lost)):
        return str(error)
    if isinstance(error, TimeoutError):
        return "it did not answer in time."
    text = str(error) or type(error).__name__
    return text if text.endswith(".") else f"{text}."
