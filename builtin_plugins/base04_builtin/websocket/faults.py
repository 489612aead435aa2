"""How errors are told to clients."""

from __future__ import annotations

from typing import Any, Final

from base04_builtin.websocket.codes import Refusal
from base04_hookspecs.errors import (
    ActionBusy,
    ActionFailed,
    ActionTimeout,
    AuthenticationError,
    Base04Error,
    Conflict,
    InvalidInput,
    ManagerUnavailable,
    NotFound,
    NotSupported,
    OutcomeUnknown,
    PermissionDenied,
    RateLimited,
    UnknownAction,
)

_CODES: Final[tuple[tuple[type[Base04Error], str], ...]] = (
    (AuthenticationError, "unauthenticated"),
    (PermissionDenied, "forbidden"),
    (RateLimited, "rate_limited"),
    (UnknownAction, "unknown_action"),
    (ActionTimeout, "timeout"),
    (ActionBusy, "unavailable"),
    (InvalidInput, "invalid_input"),
    (ManagerUnavailable, "unavailable"),
    (ActionBusy, "unavailable"),
    (NotFound, "not_found"),
    (Conflict, "conflict"),
    (NotSupported, "not_supported"),
    (OutcomeUnknown, "outcome_unknown"),
)


def refusal_for(exc: Exception, request_id: str) -> Refusal:
    """Return what a client is told of an error: everything that was raised for callers, nothing of any other."""
    if isinstance(exc, Refusal):
        return exc
    if not isinstance(exc, ActionFailed):
        for kind, code in _CODES:
            if isinstance(exc, kind):
                return Refusal(code, str(exc), **_details(exc))
    return Refusal("internal", "The server could not do this; its log says why.", request_id=request_id)


def _details(exc: Base04Error) -> dict[str, Any]:
    if isinstance(exc, PermissionDenied):
        return {"missing": list(exc.missing)}
    if isinstance(exc, RateLimited):
        return {"retry_after": exc.retry_after, "exceeded": list(exc.exceeded)}
    if isinstance(exc, UnknownAction):
        return {"matches": list(exc.matches)}
    if isinstance(exc, InvalidInput):
        return {"faults": [{"pointer": fault.pointer, "message": fault.message} for fault in exc.faults]}
    if isinstance(exc, ManagerUnavailable | ActionBusy):
        return {"retry_after": exc.retry_after}
    return {}
