"""The errors that a host's problems (RFC 9457) stand for: those of ``base04_hookspecs.errors``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from base04_hookspecs import errors

_PREFIX: Final = "urn:base04:problem:"


class UnexpectedAnswer(errors.Base04Error):
    """The host answered something that no other error stands for; ``status`` and ``problem`` are what it answered."""

    def __init__(self, message: str, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.status, self.problem = status, dict(problem)


class ExecutionCancelled(errors.Base04Error):
    """An execution in the background was cancelled."""


def error_of(status: int, body: Any, headers: Mapping[str, str], action: str) -> errors.Base04Error:
    """Return the error for an answer that is a problem; its ``request_id``, where there is one, is noted in it."""
    problem: Mapping[str, Any] = body if isinstance(body, dict) else {}
    detail = str(problem.get("detail") or problem.get("title") or f"The host answered {status}.")
    made = _KINDS.get(str(problem.get("type", "")).removeprefix(_PREFIX))
    if status == 429:
        error: errors.Base04Error = errors.RateLimited(
            detail,
            retry_after=float(problem.get("retry_after") or headers.get("retry-after") or 1),
            exceeded=problem.get("exceeded", ()),
        )
    elif made is not None:
        error = made(detail, problem, headers, action)
    else:
        error = UnexpectedAnswer(detail, status, problem)
    if "request_id" in problem:
        error.add_note(f"request id {problem['request_id']}")
    return error


def _invalid(detail: str, problem: Mapping[str, Any], headers: Mapping[str, str], action: str) -> errors.InvalidInput:
    faults = [errors.Fault(fault["pointer"], fault["detail"]) for fault in problem.get("errors", ())]
    return errors.InvalidInput(detail, faults)


def _unavailable(
    detail: str, problem: Mapping[str, Any], headers: Mapping[str, str], action: str
) -> errors.ManagerUnavailable:
    return errors.ManagerUnavailable(detail, retry_after=float(headers.get("retry-after", 1)))


_Made = Callable[[str, Mapping[str, Any], Mapping[str, str], str], errors.Base04Error]

_KINDS: Final[Mapping[str, _Made]] = {
    "invalid-input": _invalid,
    "not-found": lambda detail, *_: errors.NotFound(detail),
    "unknown-action": lambda detail, problem, _, action: errors.UnknownAction(
        detail, action=action, matches=problem.get("matches", ())
    ),
    "conflict": lambda detail, *_: errors.Conflict(detail),
    "not-authenticated": lambda detail, *_: errors.AuthenticationError(detail),
    "permission-denied": lambda detail, problem, *_: errors.PermissionDenied(detail, problem.get("missing", ())),
    "unavailable": _unavailable,
    "action-busy": lambda detail, _, headers, action: errors.ActionBusy(
        detail, action=action, retry_after=float(headers.get("retry-after", 1))
    ),
    "not-supported": lambda detail, *_: errors.NotSupported(detail),
    "outcome-unknown": lambda detail, *_: errors.OutcomeUnknown(detail),
    "action-timeout": lambda detail, problem, _, action: errors.ActionTimeout(detail, action=action),
    "action-failed": lambda detail, problem, _, action: errors.ActionFailed(detail, action=action),
}
