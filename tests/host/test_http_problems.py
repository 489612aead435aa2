from __future__ import annotations

import json

import pytest
from starlette.exceptions import HTTPException

from base04.errors import HostError
from base04.http.problems import internal_error, problem_of
from base04_hookspecs import errors
from base04_hookspecs.errors import Fault

CASES = [
    (errors.InvalidInput("no", [Fault("/a", "bad"), Fault("/b~1c", "worse")]), 422, "invalid-input"),
    (errors.NotFound("no"), 404, "not-found"),
    (errors.UnknownAction("no", action="a.b", matches=["a.c"]), 404, "unknown-action"),
    (errors.Conflict("no"), 409, "conflict"),
    (errors.AuthenticationError("why"), 401, "not-authenticated"),
    (errors.InvalidToken("why"), 401, "not-authenticated"),
    (errors.InvalidApiKey("why"), 401, "not-authenticated"),
    (errors.PermissionDenied("no", ["a.b"]), 403, "permission-denied"),
    (errors.RateLimited("no", retry_after=0.2, exceeded=["ip"]), 429, "rate-limited"),
    (errors.ManagerUnavailable("no", retry_after=2.5), 503, "unavailable"),
    (errors.NotSupported("no"), 501, "not-supported"),
    (errors.OutcomeUnknown("no"), 502, "outcome-unknown"),
    (errors.ActionTimeout("no", action="a.b"), 504, "action-timeout"),
    (errors.ActionFailed("why", action="a.b"), 500, "action-failed"),
    (HTTPException(405, headers={"Allow": "GET"}), 405, "method-not-allowed"),
    (HTTPException(418), 418, "http-error"),
]


@pytest.mark.parametrize(("error", "status", "kind"), CASES)
def test_error_that_a_caller_may_know_about_is_a_problem(error: Exception, status: int, kind: str) -> None:
    answer = problem_of(error, "request-1")
    assert answer is not None
    body = json.loads(bytes(answer.body))
    assert (answer.status_code, body["status"], body["type"]) == (status, status, f"urn:base04:problem:{kind}")
    assert (answer.media_type, body["request_id"]) == ("application/problem+json", "request-1")
    assert body["title"]
    assert "why" not in bytes(answer.body).decode()


def test_members_and_headers_of_each_kind() -> None:
    answers = {type(error): problem_of(error, "") for error, _, _ in CASES}
    bodies = {kind: json.loads(bytes(answer.body)) for kind, answer in answers.items() if answer is not None}
    headers = {kind: dict(answer.headers) for kind, answer in answers.items() if answer is not None}
    assert bodies[errors.InvalidInput]["errors"] == [
        {"pointer": "/a", "detail": "bad"},
        {"pointer": "/b~1c", "detail": "worse"},
    ]
    assert bodies[errors.UnknownAction]["matches"] == ["a.c"]
    assert bodies[errors.PermissionDenied]["missing"] == ["a.b"]
    assert bodies[errors.RateLimited]["exceeded"] == ["ip"]
    assert headers[errors.RateLimited]["retry-after"] == "1"
    assert headers[errors.ManagerUnavailable]["retry-after"] == "3"
    assert headers[errors.AuthenticationError]["www-authenticate"] == 'Bearer realm="base04"'
    assert headers[errors.InvalidToken]["www-authenticate"] == 'Bearer realm="base04", error="invalid_token"'


def test_error_that_nobody_foresaw_says_nothing() -> None:
    for error in (RuntimeError("secret"), HostError("secret"), errors.ConfigurationError("secret")):
        assert problem_of(error, "") is None
    answer = internal_error("request-1")
    assert answer.status_code == 500
    assert json.loads(bytes(answer.body))["request_id"] == "request-1"
