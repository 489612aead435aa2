from __future__ import annotations

import json

import pytest
from starlette.exceptions import HTTPException

from base04.errors import HostError
from base04.http.problems import internal_error, problem_of
from base04_hookspecs import errors
from base04_hookspecs.errors import Fault

LIMITED = "https://iana.org/assignments/http-problem-types#"
CASES = [
    (errors.InvalidInput("no", [Fault("/a", "bad"), Fault("/b~1c", "worse")]), 422, "invalid-input"),
    (errors.NotFound("no"), 404, "not-found"),
    (errors.UnknownAction("no", action="a.b", matches=["a.c"]), 404, "unknown-action"),
    (errors.Conflict("no"), 409, "conflict"),
    (errors.AuthenticationError("why"), 401, "not-authenticated"),
    (errors.InvalidToken("why"), 401, "not-authenticated"),
    (errors.InvalidApiKey("why"), 401, "not-authenticated"),
    (errors.PermissionDenied("no", ["a.b"]), 403, "permission-denied"),
    (errors.RateLimited("no", retry_after=0.2, exceeded=["ip"]), 429, LIMITED + "quota-exceeded"),
    (errors.RateLimited("no", retry_after=9, exceeded=["ip"], banned=["ip"]), 429, LIMITED + "abnormal-usage-detected"),
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
    expected = kind if kind.startswith("https:") else f"urn:base04:problem:{kind}"
    assert (answer.status_code, body["status"], body["type"]) == (status, status, expected)
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
    assert headers[errors.RateLimited]["retry-after"] == "9"
    assert headers[errors.ManagerUnavailable]["retry-after"] == "3"
    assert headers[errors.AuthenticationError]["www-authenticate"] == 'Bearer realm="base04"'
    assert (
        headers[errors.InvalidToken]["www-authenticate"]
        == 'Bearer realm="base04", error="invalid_token", error_description="invalid token"'
    )
    assert headers[errors.PermissionDenied]["www-authenticate"] == (
        'Bearer realm="base04", error="insufficient_scope", error_description="permissions are missing", scope="a.b"'
    )


@pytest.mark.parametrize("hostile", ['a"b', "a\\b", "a b", "a\r\nSet-Cookie: x", "\u00fc", ""])
def test_challenge_holds_no_scope_that_could_end_it(hostile: str) -> None:
    answer = problem_of(errors.PermissionDenied("no", [hostile, "users.write"]), "")
    assert answer is not None
    assert answer.headers["www-authenticate"].endswith(' scope="users.write"')
    alone = problem_of(errors.PermissionDenied("no", [hostile]), "")
    assert alone is not None
    assert "scope=" not in alone.headers["www-authenticate"]


def test_refusal_of_a_limit_names_what_refused_and_never_a_later_time() -> None:
    states = [
        {"limit_type": "ip", "identifier": "x", "limit": 600, "window": 60, "remaining": 5, "reset_after": 59.5},
        {"limit_type": "user", "identifier": "x", "limit": 2, "window": 60, "remaining": 0, "reset_after": 60.0},
        {"limit_type": "user", "identifier": "x", "limit": 9, "window": 3600, "remaining": 3, "reset_after": 99.0},
    ]
    answer = problem_of(errors.RateLimited("no", retry_after=29.2, exceeded=["user"], limits=states), "")
    assert answer is not None
    assert answer.headers["ratelimit-policy"] == '"ip";q=600;w=60, "user-2-60";q=2;w=60, "user-9-3600";q=9;w=3600'
    assert answer.headers["ratelimit"] == '"user-2-60";r=0;t=30'
    assert answer.headers["retry-after"] == "30"
    assert json.loads(bytes(answer.body))["violated-policies"] == ["user-2-60"]


def test_error_that_nobody_foresaw_says_nothing() -> None:
    for error in (RuntimeError("secret"), HostError("secret"), errors.ConfigurationError("secret")):
        assert problem_of(error, "") is None
    answer = internal_error("request-1")
    assert answer.status_code == 500
    assert json.loads(bytes(answer.body))["request_id"] == "request-1"
