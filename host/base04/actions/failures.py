"""What the caller of an action sees of what its handler raised."""

from __future__ import annotations

import asyncio
from typing import Final, Literal

import structlog

from base04.actions.worker_pool import CallTimeout
from base04_hookspecs.errors import (
    ActionBusy,
    ActionError,
    ActionFailed,
    ActionTimeout,
    AuthenticationError,
    Conflict,
    InvalidInput,
    ManagerUnavailable,
    NotFound,
    NotSupported,
    OutcomeUnknown,
    PermissionDenied,
    RateLimited,
)
from base04_hookspecs.host_hooks import ActionCall

Status = Literal["succeeded", "failed", "timeout", "cancelled"]

PASSED_ON: Final = (
    ActionBusy,
    AuthenticationError,
    Conflict,
    InvalidInput,
    ManagerUnavailable,
    NotFound,
    NotSupported,
    OutcomeUnknown,
    PermissionDenied,
    RateLimited,
)
"""What a handler may raise for its caller to see. Anything else is a failure of the handler."""


def failure(call: ActionCall, raised: BaseException) -> tuple[Status, BaseException]:
    """Return how a run ended that raised, and what its caller sees of it."""
    if isinstance(raised, asyncio.CancelledError):
        return "cancelled", raised
    if isinstance(raised, CallTimeout):
        return "timeout", _timed_out(call, raised)
    if isinstance(raised, PASSED_ON):
        return "failed", raised
    error = failed(call, raised)
    error.__cause__ = raised
    return "failed", error


def failed(call: ActionCall, error: BaseException) -> ActionFailed:
    """Log a failure, and return what the caller sees of it: no detail of what was raised."""
    name, request_id = call.action["name"], call.request.request_id
    log = structlog.get_logger()
    if isinstance(error, ActionError):  # of a nested action, which has been logged
        log.error("action failed", action=name, request_id=request_id, cause=str(error))
    else:
        log.error("action failed", action=name, request_id=request_id, exc_info=error)
    return ActionFailed(f"The action {name!r} failed; the log says why, under request id {request_id!r}.", action=name)


def _timed_out(call: ActionCall, error: CallTimeout) -> ActionTimeout:
    name = call.action["name"]
    late = ActionTimeout(f"The action {name!r} took longer than the {call.action['timeout']:g} s it may.", action=name)
    late.__cause__ = error
    return late
