"""Errors as ``application/problem+json`` (RFC 9457): the request id and every fault, never a traceback."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from base04.http.challenge import OAuthError, challenge
from base04.http.exchange import Exchange
from base04.http.handshake import refuse_handshake
from base04.http.limit_headers import refusal_headers, violated
from base04_hookspecs import errors

_STATUS: Final[tuple[tuple[type[Exception], int, str, str], ...]] = (
    (errors.InvalidInput, 422, "invalid-input", "The request is not acceptable"),
    (errors.HistoryPruned, 410, "history-pruned", "Kept no more"),
    (errors.NotFound, 404, "not-found", "Not found"),
    (errors.UnknownAction, 404, "unknown-action", "There is no such action"),
    (errors.Conflict, 409, "conflict", "Conflict"),
    (errors.AuthenticationError, 401, "not-authenticated", "Who is calling is not known"),
    (errors.PermissionDenied, 403, "permission-denied", "Permission denied"),
    (errors.ManagerUnavailable, 503, "unavailable", "Unavailable just now"),
    (errors.NotSupported, 501, "not-supported", "Not supported"),
    (errors.OutcomeUnknown, 502, "outcome-unknown", "Whether it was done is not known"),
    (errors.ActionBusy, 503, "action-busy", "The action runs as often as it may"),
    (errors.ActionTimeout, 504, "action-timeout", "The action took too long"),
    (errors.ActionFailed, 500, "action-failed", "The action failed"),
)
_HTTP_TITLES: Final = {
    400: "The request is malformed",
    404: "Not found",
    405: "Method not allowed",
    412: "It has changed meanwhile",
    413: "The body is too large",
    415: "The body has another media type",
    428: "The request must name what it replaces",
}


_PROBLEM: Final = "application/problem+json"

_LIMITED: Final = "https://iana.org/assignments/http-problem-types#"
"""Where draft-ietf-httpapi-ratelimit-headers-11 registers its problem types."""

_LIMIT_KINDS: Final = {
    True: ("abnormal-usage-detected", "Banned"),
    False: ("quota-exceeded", "Too many requests"),
}
"""By whether the caller is banned."""


class _ProblemAnswer(Response):
    """A problem, made with less to do than a response usually is, for there may be a flood."""

    media_type = _PROBLEM

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Write the fields."""
        self.raw_headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()
        ]
        self.raw_headers += [(b"content-length", b"%d" % len(self.body)), (b"content-type", _PROBLEM.encode())]


def problem(
    status: int,
    kind: str,
    title: str,
    detail: str,
    request_id: str,
    *,
    headers: dict[str, str] | None = None,
    **members: Any,
) -> Response:
    """Build an answer; ``members`` are the extension members of this kind of problem."""
    return _answer({**_problem(status, kind, title, detail, request_id), **members}, headers)


def _problem(status: int, kind: str, title: str, detail: str, request_id: str) -> dict[str, Any]:
    return {
        "type": _type(kind),
        "title": title,
        "status": status,
        "detail": detail,
        "request_id": request_id,
    }


def _answer(members: dict[str, Any], headers: dict[str, str] | None) -> Response:
    return _ProblemAnswer(orjson.dumps(members, default=str), members["status"], headers)


def problem_of(error: Exception, request_id: str) -> Response | None:
    """Return the answer for an error of a kind that a caller may know about, None for any other."""
    if isinstance(error, HTTPException):
        return _of_http_exception(error, request_id)
    members = problem_members(error, request_id)
    return None if members is None else _answer(members, _headers(error))


def problem_members(error: Exception, request_id: str) -> dict[str, Any] | None:
    """Return the members of the problem that an error of the host is, None where a caller may not know about it."""
    if isinstance(error, errors.RateLimited):
        return {**_problem(429, *_kind_of_limit(error), str(error), request_id), **_members(error)}
    for kind, status, name, title in _STATUS:
        if isinstance(error, kind):
            return {**_problem(status, name, title, _detail(error, status), request_id), **_members(error)}
    return None


def problems_of(kind: type[Exception]) -> list[tuple[int, str]]:
    """Return the status and the type of each problem that an error of a class can be over HTTP."""
    if issubclass(kind, errors.RateLimited):
        return [(429, _type(_LIMITED + name)) for name, _ in _LIMIT_KINDS.values()]
    return next(([(status, _type(name))] for known, status, name, _ in _STATUS if issubclass(kind, known)), [])


def _detail(error: Exception, status: int) -> str:
    if status == 500:
        return "The action failed; its log has the reason under this request id."
    if type(error) is errors.AuthenticationError:  # neither a token nor a key, which say that they are invalid
        return "Say who is calling: 'Authorization: Bearer' with a token, or 'X-API-Key' with an API key."
    return str(error)


def problem_kinds() -> Iterator[tuple[int, str, str]]:
    """Yield every kind of problem: its status, type and title."""
    for _, status, kind, title in _STATUS:
        yield status, _type(kind), title
    for status, title in _HTTP_TITLES.items():
        yield status, _type(_kind_of(title)), title
    for kind, title in _LIMIT_KINDS.values():
        yield 429, _type(_LIMITED + kind), title
    yield 500, _type("internal-error"), "Internal error"


def _type(kind: str) -> str:
    return kind if kind.startswith("https:") else f"urn:base04:problem:{kind}"


def _kind_of(title: str) -> str:
    return title.lower().replace(" ", "-")


def internal_error(request_id: str) -> Response:
    """Return the answer for an error that nobody foresaw: it says nothing but where to look."""
    detail = "Something went wrong; the log has the reason under this request id."
    return problem(500, "internal-error", "Internal error", detail, request_id)


def _of_http_exception(error: HTTPException, request_id: str) -> Response:
    title = _HTTP_TITLES.get(error.status_code, error.detail)
    members = {"error": error.code} if isinstance(error, OAuthError) else {}
    kind = _kind_of(title) if error.status_code in _HTTP_TITLES else "http-error"
    return problem(
        error.status_code, kind, title, error.detail, request_id, headers=dict(error.headers or {}), **members
    )


def _kind_of_limit(error: errors.RateLimited) -> tuple[str, str]:
    kind, title = _LIMIT_KINDS[bool(error.banned)]
    return _LIMITED + kind, title


def _members(error: Exception) -> dict[str, Any]:
    if isinstance(error, errors.RateLimited):
        return {
            "violated-policies": violated(error),
            "exceeded": list(error.exceeded),
            "retry_after": error.retry_after,
        }
    if isinstance(error, errors.InvalidInput):
        return {"errors": [{"pointer": fault.pointer, "detail": fault.message} for fault in error.faults]}
    if isinstance(error, errors.UnknownAction):
        return {"matches": list(error.matches)}
    if isinstance(error, errors.PermissionDenied):
        return {"missing": list(error.missing)}
    return {}


def _headers(error: Exception) -> dict[str, str]:
    if isinstance(error, errors.RateLimited):
        return refusal_headers(error)
    if isinstance(error, errors.ManagerUnavailable | errors.ActionBusy):
        return {"retry-after": str(max(1, math.ceil(error.retry_after)))}
    if isinstance(error, errors.AuthenticationError | errors.PermissionDenied):
        return {"www-authenticate": challenge(error)}
    return {}


def stopping(request_id: str) -> Response:
    """Return the answer of a host that does not serve."""
    detail = "The host has not started, or is stopping."
    return problem(503, "unavailable", "Unavailable just now", detail, request_id, headers={"retry-after": "1"})


async def not_started(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer while the host does not run."""
    exchange = Exchange(scope, send)
    await respond(stopping(exchange.request_id), scope, receive, exchange.send)


async def respond(answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request, or a WebSocket handshake that is not accepted."""
    if scope["type"] == "websocket":
        await refuse_handshake(answer, scope, receive, send)
    else:
        await answer(scope, receive, send)
