"""What a host answers, to good requests and to bad ones."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import websockets

from serve_kit import PATIENCE_S, Server, noise, write

SAY_WHO = "Say who is calling: 'Authorization: Bearer' with a token, or 'X-API-Key' with an API key."
SETTINGS = """
server: {max_body_bytes: 2000}
managers:
  action_discovery: {folders: [actions]}
"""

PACK = """
pack: try
version: 1.0.0
actions:
  echo:
    summary: Give back what came
    handler: .handlers:echo
    access: public
    parameters:
      name: {type: string, minLength: 2, maxLength: 2000}
      times: {type: integer, minimum: 1, maximum: 3, default: 1}
      nested: {type: object, properties: {"a/b~c": {type: integer}}}
    required: [name]
  whoami: {summary: Say who calls, handler: ".handlers:whoami", access: public}
  mine: {summary: Say who calls, handler: ".handlers:whoami"}
  guarded: {summary: For some, handler: ".handlers:whoami", access: {permissions: [try.guarded, try.more]}}
  broken: {summary: Fail, handler: ".handlers:broken", access: public}
  quits: {summary: Leave, handler: ".handlers:quits", access: public}
  not_a_number: {summary: Give no JSON, handler: ".handlers:not_a_number", access: public}
  numbers: {summary: Give numbers, handler: ".handlers:numbers", access: public}
  slow: {summary: Never end, handler: ".handlers:slow", access: public, timeout: 50ms}
  seldom: {summary: Once a day, handler: ".handlers:whoami", access: public, rate_limit: 1/day}
  token: {summary: Make a token, handler: ".handlers:token", access: {permissions: [try.token]}}
  twin: {summary: Called in another action, handler: ".handlers:twin", access: public}
"""

HANDLERS = """
import asyncio
import os

from base04_hookspecs import current_request
from base04_hookspecs.action_discovery import ActionContext
from base04_hookspecs.jwt import JWTManager


async def echo(name, times, nested=None):
    return {"message": name * times, "nested": nested}


def whoami():
    request = current_request()
    principal = request.principal
    return {
        "user": principal.user_id,
        "method": principal.method,
        "permissions": list(principal.permissions),
        "client_ip": request.client_ip,
        "request_id": request.request_id,
        "source": request.source,
    }


async def broken():
    raise RuntimeError("the secret of the handler")


def quits():
    raise SystemExit(7)


async def not_a_number():
    return {"x": float("nan")}


async def numbers():
    return {"big": 2**53 + 1, "small": 0.1, "none": None}


async def slow():
    await asyncio.Event().wait()


async def token(jwt: JWTManager, user: str = "ada"):
    return await jwt.create_access_token(user, {"permissions": ["try.guarded", "try.more"]})


async def twin(context: ActionContext):
    return await context.run("try.whoami")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("requests")
    write(folder / "actions" / "try.yaml", PACK)
    write(folder / "actions" / "handlers.py", HANDLERS)
    with Server(folder, settings=SETTINGS) as running:
        yield running
        assert running.stop() == 0


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as anonymous:
        yield anonymous


@pytest.fixture
def admin(server: Server) -> Iterator[httpx.Client]:
    with server.admin() as everything:
        yield everything


def problem(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """Check that an answer is a problem as RFC 9457 and the host have it, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["type"] == (kind if kind.startswith("https:") else f"urn:base04:problem:{kind}")
    assert found["status"] == status
    assert found["title"]
    assert found["detail"]
    assert found["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    return found


def key_for(admin: httpx.Client, *permissions: str) -> str:
    """Make a key for ada."""
    made = admin.post("/api-keys", json={"user_id": "ada", "permissions": list(permissions)})
    assert made.status_code == 201, made.text
    return str(made.json()["api_key"])


# Actions


def test_action_answers_by_full_and_by_short_name(client: httpx.Client) -> None:
    for name in ("try.echo", "echo"):
        answer = client.post(f"/actions/{name}", json={"name": "ab", "times": 2})
        assert (answer.status_code, answer.json()) == (200, {"message": "abab", "nested": None})
        assert answer.headers["content-type"] == "application/json"


def test_action_without_parameters_needs_no_body(client: httpx.Client) -> None:
    answer = client.post("/actions/try.whoami")
    assert answer.status_code == 200
    assert answer.json()["source"] == "http"
    assert answer.json()["client_ip"] == "127.0.0.1"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_nested_action_keeps_caller_and_request(client: httpx.Client) -> None:
    answer = client.post("/actions/try.twin", headers={"x-request-id": "outer-1"})
    assert (answer.json()["request_id"], answer.json()["source"]) == ("outer-1", "action")


def test_numbers_come_through_exactly(client: httpx.Client) -> None:
    assert client.post("/actions/try.numbers").json() == {"big": 2**53 + 1, "small": 0.1, "none": None}


def test_wrong_parameters_are_all_listed_with_their_pointers(client: httpx.Client) -> None:
    answer = client.post("/actions/try.echo", json={"name": 1, "times": 9, "nested": {"a/b~c": "x"}, "more": 1})
    found = problem(answer, 422, "invalid-input")
    assert {fault["pointer"] for fault in found["errors"]} == {"/name", "/times", "/nested/a~1b~0c", "/more"}
    assert all(fault["detail"] for fault in found["errors"])


def test_missing_parameter_is_named(client: httpx.Client) -> None:
    bodies: list[Any] = [None, {}]
    for body in bodies:
        found = problem(client.post("/actions/try.echo", json=body), 422, "invalid-input")
        assert [fault["pointer"] for fault in found["errors"]] == ["/name"]


@pytest.mark.parametrize("body", ["[]", '[{"name": "ab"}]', '"name"', "1", "true"])
def test_body_that_is_no_object_is_refused(client: httpx.Client, body: str) -> None:
    answer = client.post("/actions/try.echo", content=body, headers={"content-type": "application/json"})
    found = problem(answer, 422, "invalid-input")
    assert [fault["pointer"] for fault in found["errors"]] == [""]


@pytest.mark.parametrize(
    "body",
    [b"{", b"{'name': 1}", b'{"name": NaN}', b'{"name": "\xff"}', b'{"name": "\\ud800"}', b"[" * 1500, b"\x00"],
)
def test_body_that_is_not_json_is_refused_with_its_place(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/actions/try.echo", content=body, headers={"content-type": "application/json"})
    assert "line 1, column" in problem(answer, 400, "the-request-is-malformed")["detail"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
def test_body_of_another_type_is_refused(client: httpx.Client, content_type: str) -> None:
    answer = client.post("/actions/try.echo", content=b'{"name": "ab"}', headers={"content-type": content_type})
    assert "application/json" in problem(answer, 415, "the-body-has-another-media-type")["detail"]


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/a+json"])
def test_json_types_are_taken(client: httpx.Client, content_type: str) -> None:
    answer = client.post("/actions/try.echo", content=b'{"name": "ab"}', headers={"content-type": content_type})
    assert answer.status_code == 200


def test_body_that_is_too_large_is_refused_however_it_comes(client: httpx.Client) -> None:
    large = json.dumps({"name": "x" * 3000}).encode()
    headers = {"content-type": "application/json"}
    declared = client.post("/actions/try.echo", content=large, headers=headers)
    chunked = client.post("/actions/try.echo", content=iter([large[:1500], large[1500:]]), headers=headers)
    for answer in (declared, chunked):
        assert "2000 bytes" in problem(answer, 413, "the-body-is-too-large")["detail"]
    fits = json.dumps({"name": "x" * 1900}).encode()
    assert client.post("/actions/try.echo", content=iter([fits[:9], fits[9:]]), headers=headers).status_code == 200


async def test_socket_whose_message_is_too_large_is_closed_before_anybody_is_known(server: Server) -> None:
    async with websockets.connect(server.url.replace("http", "ws") + "/ws", proxy=None) as client:
        await client.send("x" * 2001)
        with pytest.raises(websockets.ConnectionClosed):
            await client.recv()
        assert client.close_code == 1009


def test_unknown_action_has_close_matches(client: httpx.Client) -> None:
    for answer in (client.post("/actions/try.ecko", json={}), client.get("/actions/try.ecko")):
        found = problem(answer, 404, "unknown-action")
        assert found["matches"][0] == "try.echo"
        assert "Did you mean 'try.echo'" in found["detail"]


@pytest.mark.parametrize("name", ["", "..", "try.echo/", "a/b", "%2e%2e%2fetc", "try%252eecho", "%00", "ü", "x" * 3000])
def test_strange_action_names_are_simply_unknown(client: httpx.Client, name: str) -> None:
    answer = client.post(f"/actions/{name}" if name != ".." else "/actions/%2e%2e", json={})
    assert answer.status_code == 404
    assert len(answer.text) < 4000


def test_escaped_names_are_decoded_once(client: httpx.Client) -> None:
    assert client.post("/actions/try%2Eecho", json={"name": "ab"}).status_code == 200


def test_handler_that_raises_tells_the_caller_nothing_and_the_log_everything(
    client: httpx.Client, server: Server
) -> None:
    answer = client.post("/actions/try.broken", headers={"x-request-id": "find-me"})
    found = problem(answer, 500, "action-failed")
    assert found["request_id"] == "find-me"
    assert "secret" not in answer.text
    assert "RuntimeError" not in answer.text
    line = server.stderr.wait_for("the secret of the handler")
    assert line is not None
    logged = json.loads(line)
    assert logged["request_id"] == "find-me"
    assert "Traceback (most recent call last)" in logged["exception"]
    assert "handlers.py" in logged["exception"]


@pytest.mark.parametrize("action", ["quits", "not_a_number"])
def test_handler_that_misbehaves_fails_alone(client: httpx.Client, action: str) -> None:
    problem(client.post(f"/actions/try.{action}"), 500, "action-failed")
    assert client.get("/health/live").status_code == 200


def test_slow_handler_is_ended(client: httpx.Client) -> None:
    assert "0.05 s" in problem(client.post("/actions/try.slow"), 504, "action-timeout")["detail"]


def test_limit_of_an_action_says_when_to_come_back(client: httpx.Client) -> None:
    assert client.post("/actions/try.seldom").status_code == 200
    answer = client.post("/actions/try.seldom")
    found = problem(answer, 429, "https://iana.org/assignments/http-problem-types#quota-exceeded")
    assert (found["exceeded"], found["violated-policies"]) == (["action"], ["action"])
    assert 0 < found["retry_after"] <= int(answer.headers["retry-after"]) <= 86400


def test_actions_are_listed_and_shown(client: httpx.Client) -> None:
    listed = client.get("/actions").json()
    assert listed["total"] == len(listed["actions"]) == 12
    shown = client.get("/actions/try.echo").json()
    assert shown == listed["actions"]["try.echo"]
    assert shown["parameters"]["required"] == ["name"]


# Who is calling


def test_protected_action_without_credentials_says_how_to_show_them(client: httpx.Client) -> None:
    answer = client.post("/actions/try.mine")
    problem(answer, 401, "not-authenticated")
    assert answer.headers["www-authenticate"] == 'Bearer realm="base04"'


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer nonsense"},
        {b"authorization": b"bearer a.b.c"},
        {b"authorization": b"Bearer"},
        {b"authorization": b"Basic YWRhOmFkYQ=="},
        {b"authorization": b""},
        {b"authorization": b"Bearer \xc3\xbc.\xff.x"},
        {b"authorization": b"Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ."},
        {b"x-api-key": b"nonsense"},
        {b"x-api-key": b""},
        {b"x-api-key": b"b04_\xff\xfe"},
        {b"x-api-key": b"b04_MmUzBVZCWEhwBh4kDswltcz1m2DQVhpVggpiOghD6a0ttPZ8"},
        {b"x-api-key": b"b04_" + b"A" * 5000},
    ],
)
def test_credentials_that_are_not_ours_are_refused_everywhere(
    client: httpx.Client, headers: dict[bytes, bytes]
) -> None:
    for path in ("/actions/try.mine", "/actions/try.whoami"):
        answer = client.post(path, headers=headers)
        found = problem(answer, 401, "not-authenticated")
        assert found["detail"] in ("invalid token", "invalid API key", SAY_WHO)
        assert answer.headers["www-authenticate"].startswith('Bearer realm="base04"')


def test_only_one_way_to_show_who_is_calling_is_taken(client: httpx.Client, server: Server) -> None:
    key = server.admin_key
    for headers in (
        [("x-api-key", key), ("authorization", "Bearer x")],
        [("authorization", "Bearer x"), ("x-api-key", key)],
        [("x-api-key", key), ("x-api-key", key)],
    ):
        problem(client.post("/actions/try.mine", headers=headers), 400, "the-request-is-malformed")


def test_api_key_proves_who_calls_and_what_is_missing_is_named(admin: httpx.Client, server: Server) -> None:
    with server.client(key_for(admin, "try.more")) as ada:
        mine = ada.post("/actions/try.mine").json()
        assert (mine["user"], mine["method"], mine["permissions"]) == ("ada", "api_key", ["try.more"])
        found = problem(ada.post("/actions/try.guarded"), 403, "permission-denied")
        assert found["missing"] == ["try.guarded"]
        assert "'try.guarded'" in found["detail"]


def test_token_proves_who_calls(admin: httpx.Client, client: httpx.Client) -> None:
    token = admin.post("/actions/try.token").json()
    for scheme in ("Bearer", "bearer"):
        answer = client.post("/actions/try.guarded", headers={"authorization": f"{scheme} {token}"})
        assert answer.status_code == 200
        assert (answer.json()["user"], answer.json()["method"]) == ("ada", "token")


def test_forwarding_headers_are_not_believed(client: httpx.Client) -> None:
    headers = {"x-forwarded-for": "203.0.113.9", "x-real-ip": "203.0.113.9", "forwarded": "for=203.0.113.9"}
    assert client.post("/actions/try.whoami", headers=headers).json()["client_ip"] == "127.0.0.1"


def test_a_caller_cannot_pretend_to_be_local(client: httpx.Client) -> None:
    headers = {"base04.local": "1", "base04-local": "1", "host": "localhost"}
    assert client.post("/actions/try.whoami", headers=headers).json()["method"] == "anonymous"


# Paths, methods, request ids


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/actionsx", "/health/nothing", "/api-keys/a/b", "/%2e%2e/etc/passwd"]
)
def test_unknown_path_is_a_problem(client: httpx.Client, path: str) -> None:
    problem(client.get(path), 404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/actions/try.echo", "GET, HEAD, POST"),
        ("DELETE", "/actions/try.echo", "GET, HEAD, POST"),
        ("POST", "/actions", "GET, HEAD"),
        ("DELETE", "/api-keys", "GET, HEAD, POST"),
        ("POST", "/api-keys/some", "DELETE, GET, HEAD, PATCH"),
        ("GET", "/api-keys/some/roll", "POST"),
        ("GET", "/auth/token", "POST"),
        ("POST", "/audit", "GET, HEAD"),
        ("POST", "/health", "GET, HEAD"),
        ("POST", "/health/live", "GET, HEAD"),
        ("OPTIONS", "/managers", "GET, HEAD"),
        ("NONSENSE", "/graph", "GET, HEAD"),
    ],
)
def test_wrong_method_says_which_are_right(client: httpx.Client, method: str, path: str, allowed: str) -> None:
    answer = client.request(method, path)
    if method == "NONSENSE" and answer.status_code == 400:  # the HTTP parser knows its methods
        return
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == allowed


def test_head_answers_as_get_without_a_body(client: httpx.Client) -> None:
    for path, status in (("/actions", 200), ("/health/live", 200), ("/nothing", 404), ("/managers", 401)):
        answer = client.head(path)
        assert (answer.status_code, answer.content) == (status, b"")
        assert answer.headers["content-length"] == client.get(path).headers["content-length"]


def test_request_id_is_taken_over_where_it_is_harmless(client: httpx.Client) -> None:
    for path in ("/health/live", "/nothing", "/managers"):
        assert client.get(path, headers={"x-request-id": "a.B-9_"}).headers["x-request-id"] == "a.B-9_"


@pytest.mark.parametrize("hostile", [b"", b"a b", b"a\tb", b'"; drop', b"\xc3\xbc", b"a" * 129, b"{}", b"<script>"])
def test_hostile_request_id_is_replaced(client: httpx.Client, hostile: bytes) -> None:
    answer = client.get("/health/live", headers={b"x-request-id": hostile})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert len(answer.headers.get_list("x-request-id")) == 1


# Looking at the host


@pytest.mark.parametrize("path", ["/managers", "/graph", "/graph?format=mermaid", "/modules", "/api-keys"])
def test_looking_at_the_host_needs_a_permission(
    client: httpx.Client, admin: httpx.Client, server: Server, path: str
) -> None:
    problem(client.get(path), 401, "not-authenticated")
    with server.client(key_for(admin, "try.more")) as ada:
        found = problem(ada.get(path), 403, "permission-denied")
        assert found["missing"] == ["api_keys.manage" if path == "/api-keys" else "host.read"]
    assert admin.get(path).status_code == 200


def test_managers_tell_provider_origin_and_dependants(admin: httpx.Client) -> None:
    found = {item["manager"]: item for item in admin.get("/managers").json()["managers"]}
    assert found["redis"]["provider"] == "memory"
    assert found["redis"]["origin"].startswith("base04 ")
    assert found["database"]["dependants"] == sorted(found["database"]["dependants"])
    assert "api_key" in found["database"]["dependants"]
    assert "database" in found["api_key"]["depends_on"]
    assert found["database"]["status"] in ("started", "healthy")


def test_graph_is_json_or_drawn(admin: httpx.Client) -> None:
    graph = admin.get("/graph").json()
    assert {"from": "api_key", "to": "database", "through": "database", "optional": False} in graph["edges"]
    assert len(graph["nodes"]) == 13
    drawn = admin.get("/graph", params={"format": "mermaid"})
    assert drawn.headers["content-type"].startswith("text/plain")
    assert drawn.text.startswith("flowchart TD\n")
    assert "m_api_key --> m_database" in drawn.text
    picture = admin.get("/graph", params={"format": "svg"})
    assert picture.headers["content-type"].startswith("image/svg+xml")
    assert picture.text.startswith("<svg ")
    assert admin.get("/graph", params={"format": "dot"}).text.startswith("digraph base04 {")
    assert "one of json, svg, mermaid, dot" in problem(admin.get("/graph?format=png"), 422, "invalid-input")["detail"]


def test_modules_are_listed(admin: httpx.Client) -> None:
    names = [item["name"] for item in admin.get("/modules").json()["modules"]]
    assert "builtin-redis" in names


def test_health_gives_details_only_to_admins(client: httpx.Client, admin: httpx.Client) -> None:
    assert client.get("/health/live").json() == {"status": "alive"}
    assert client.get("/health/ready").json() == {"status": "ready"}
    assert client.get("/health").json() == {"status": "healthy"}
    found = admin.get("/health").json()
    assert found["managers"]["database"]["status"] == "healthy"
    assert found["managers"]["api_key"]["dependencies"]["database"] == "healthy"


def test_liveness_does_not_look_at_credentials(client: httpx.Client) -> None:
    for path in ("/health/live", "/health/ready"):
        assert client.get(path, headers={"x-api-key": "nonsense"}).status_code == 200


# API keys


def test_key_is_created_used_listed_and_revoked(admin: httpx.Client, server: Server) -> None:
    made = admin.post(
        "/api-keys",
        json={"user_id": "bob", "permissions": ["host.read"], "name": "n", "expires_in": 60, "rate_limit": "9/minute"},
    )
    assert made.status_code == 201
    created = made.json()
    assert (created["user_id"], created["name"], created["rate_limit"]) == ("bob", "n", "9/minute")
    key = created.pop("api_key")
    listed = admin.get("/api-keys", params={"user_id": "bob"})
    assert [item["key_id"] for item in listed.json()["api_keys"]] == [created["key_id"]]
    assert key not in listed.text
    with server.client(key) as bob:
        assert bob.get("/graph").status_code == 200
        assert admin.delete(f"/api-keys/{created['key_id']}").status_code == 204
        problem(bob.get("/graph"), 401, "not-authenticated")
    problem(admin.delete(f"/api-keys/{created['key_id']}"), 404, "not-found")
    assert admin.get("/api-keys", params={"user_id": "bob"}).json() == {"api_keys": []}
    kept = admin.get("/api-keys", params={"user_id": "bob", "include_revoked": "true"}).json()["api_keys"]
    assert [item["key_id"] for item in kept] == [created["key_id"]]


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, [""]),
        ([], [""]),
        ([1], [""]),
        ("x", [""]),
        ({"user_id": ""}, ["/user_id"]),
        ({"user_id": "a", "permissions": ["ok", 1], "expires_in": 0, "more": 1}, ["", "/expires_in", "/permissions/1"]),
    ],
)
def test_key_that_is_not_described_well_is_refused(admin: httpx.Client, body: Any, pointers: list[str]) -> None:
    found = problem(admin.post("/api-keys", json=body), 422, "invalid-input")
    assert sorted(fault["pointer"] for fault in found["errors"]) == pointers


@pytest.mark.parametrize(
    "body",
    [
        {"user_id": "a", "permissions": ["not a permission"]},
        {"user_id": "a", "rate_limit": "often"},
        {"user_id": "a", "expires_in": 1e300},
        {"user_id": "a" * 1500},
        {"user_id": "a\x00b"},
    ],
)
def test_key_that_the_manager_refuses_is_the_callers_fault(admin: httpx.Client, body: Any) -> None:
    problem(admin.post("/api-keys", json=body), 422, "invalid-input")


@pytest.mark.parametrize("query", ["limit=x", "limit=-1", "offset=%C2%B2", "limit=99999", "limit=1e3", "offset="])
def test_page_that_is_no_number_is_refused(admin: httpx.Client, query: str) -> None:
    problem(admin.get(f"/api-keys?{query}"), 422, "invalid-input")


def test_nobody_grants_more_than_they_hold(admin: httpx.Client, server: Server) -> None:
    with server.client(key_for(admin, "api_keys.manage", "notes.*")) as ada:
        within = ada.post("/api-keys", json={"user_id": "bob", "permissions": ["notes.read"]})
        assert within.status_code == 201
        for more in ("*", "host.read", "notes"):
            found = problem(
                ada.post("/api-keys", json={"user_id": "bob", "permissions": [more]}), 403, "permission-denied"
            )
            assert found["missing"] == [more]


# Clients that do not behave


def test_clients_that_leave_in_the_middle_leave_no_trace(server: Server, client: httpx.Client) -> None:
    head = b"POST /actions/try.echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    for rest in (
        b"",
        b"content-length: 100\r\n\r\n",
        b'content-length: 100\r\n\r\n{"name"',
        b'transfer-encoding: chunked\r\n\r\n5\r\n{"nam',
        b"transfer-encoding: chunked\r\n\r\nnonsense\r\n",
        b"content-length: 5, 6\r\n\r\n",
    ):
        with socket.create_connection(server.address) as connection:
            connection.sendall(head + rest)
    assert client.get("/health/live").status_code == 200
    assert "Exception in ASGI" not in server.stderr.text
    assert noise(server.stderr.text) == []


def test_body_that_is_longer_than_declared_is_no_second_request(server: Server) -> None:
    request = (
        b"POST /actions/try.echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 14\r\n\r\n"
        b'{"name": "ab"}GARBAGE / HTTP/1.1\r\n\r\n'
    )
    with socket.create_connection(server.address) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert received.startswith(b"HTTP/1.1 ")
    assert b" 500 " not in received


def test_open_files_do_not_grow_with_requests(server: Server) -> None:
    folder = Path(f"/proc/{server.pid}/fd")
    if not folder.exists():
        pytest.skip("this system does not tell which files a process has open")

    def ask() -> None:
        for path in ("/actions/try.echo", "/actions/try.broken", "/nothing"):
            with server.client() as client:
                client.post(path, json={"name": "ab"})

    def opened() -> int:
        return len(list(folder.iterdir()))

    ask()
    before = opened()
    for _ in range(20):
        ask()
    deadline = time.monotonic() + PATIENCE_S
    while opened() > before and time.monotonic() < deadline:
        os.sched_yield()  # connections that clients have closed are let go a moment later
    assert opened() <= before
