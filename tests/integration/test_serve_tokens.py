"""Tokens over HTTP: had for an API key, refreshed, introspected, ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from serve_kit import Server, install, write

Serve = Callable[..., Server]

SETTINGS = """
managers:
  action_discovery: {folders: [actions]}
  jwt: {retry_window: 0}
  rate_limiter: {limits: {ip: 100000/minute}}
"""
PACK = """
pack: safe
version: 1.0.0
actions:
  open: {summary: Open it, handler: ".handlers:open_it", access: {permissions: [safe.open]}}
"""
HANDLERS = """
from base04_hookspecs import current_request

async def open_it():
    principal = current_request().principal
    return [principal.user_id, principal.method, principal.api_key_id]
"""
BADGE = """
from base04_hookspecs import Principal, hookimpl

@hookimpl
def authenticate():
    async def by_badge(credentials):
        badge = credentials.headers.get("x-badge")
        return Principal(badge, ("safe.open",), "plugin") if badge else None
    return [by_badge]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("tokens")
    write(folder / "actions" / "safe.yaml", PACK)
    write(folder / "actions" / "handlers.py", HANDLERS)
    install(folder / "site", "acme-badge", plugins={"badge": "acme_badge"}, files={"acme_badge.py": BADGE})
    with Server(folder, settings=SETTINGS, site=folder / "site") as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as anonymous:
        yield anonymous


@pytest.fixture
def admin(server: Server) -> Iterator[httpx.Client]:
    with server.admin() as everything:
        yield everything


def new_key(admin: httpx.Client, user: str, *permissions: str, **more: Any) -> dict[str, Any]:
    made = admin.post("/api-keys", json={"user_id": user, "permissions": list(permissions), **more})
    assert made.status_code == 201, made.text
    assert made.headers["cache-control"] == "no-store"
    found: dict[str, Any] = made.json()
    return found


def pair_for(client: httpx.Client, key: str) -> dict[str, Any]:
    answer = client.post("/auth/token", headers={"x-api-key": key})
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    found: dict[str, Any] = answer.json()
    return found


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def opened(client: httpx.Client, token: str) -> httpx.Response:
    return client.post("/actions/safe.open", headers=bearer(token))


def refuses(answer: httpx.Response) -> bool:
    """Tell whether a token is refused as RFC 6750 says, without a word about the reason."""
    assert answer.status_code in (200, 401), answer.text
    if answer.status_code == 200:
        return False
    assert answer.json()["detail"] == "invalid token"
    challenge = 'Bearer realm="base04", error="invalid_token", error_description="invalid token"'
    assert answer.headers["www-authenticate"] == challenge
    return True


def test_key_is_exchanged_for_tokens_with_its_permissions(client: httpx.Client, admin: httpx.Client) -> None:
    key = new_key(admin, "ada", "safe.open")
    pair = pair_for(client, key["api_key"])
    assert set(pair) == {"access_token", "refresh_token", "token_type", "expires_in"}
    assert (pair["token_type"], 0 < pair["expires_in"] <= 900) == ("Bearer", True)
    assert opened(client, pair["access_token"]).json() == ["ada", "token", key["key_id"]]
    assert refuses(opened(client, pair["refresh_token"]))


def test_missing_permission_is_said_as_a_scope(client: httpx.Client, admin: httpx.Client) -> None:
    token = pair_for(client, new_key(admin, "eve", "host.read")["api_key"])["access_token"]
    answer = opened(client, token)
    assert answer.status_code == 403
    assert answer.headers["www-authenticate"] == (
        'Bearer realm="base04", error="insufficient_scope", error_description="permissions are missing", '
        'scope="safe.open"'
    )


def test_refresh_asks_the_key_anew_and_uses_the_token_up(client: httpx.Client, admin: httpx.Client) -> None:
    key = new_key(admin, "bob", "safe.open")
    first = pair_for(client, key["api_key"])
    assert admin.patch(f"/api-keys/{key['key_id']}", json={"permissions": []}).json()["permissions"] == []
    answer = client.post("/auth/refresh", json={"refresh_token": first["refresh_token"]})
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert opened(client, answer.json()["access_token"]).status_code == 403


@pytest.mark.parametrize("path", ["/auth/refresh", "/auth/token"])
def test_refresh_takes_a_form_and_ignores_an_expired_header(
    client: httpx.Client, admin: httpx.Client, path: str
) -> None:
    pair = pair_for(client, new_key(admin, "ada", "safe.open")["api_key"])
    form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
    headers = bearer("expired") if path == "/auth/refresh" else {}
    answer = client.post(path, data=form, headers=headers)
    assert answer.status_code == 200, answer.text
    assert not refuses(opened(client, answer.json()["access_token"]))


def test_replayed_refresh_token_ends_its_family_and_is_in_the_audit_log(
    client: httpx.Client, admin: httpx.Client
) -> None:
    pair = pair_for(client, new_key(admin, "mallory", "safe.open")["api_key"])
    renewed = client.post("/auth/refresh", json={"refresh_token": pair["refresh_token"]}).json()
    replayed = client.post("/auth/refresh", json={"refresh_token": pair["refresh_token"]})
    assert (replayed.status_code, replayed.json()["error"]) == (400, "invalid_grant")
    assert replayed.json()["detail"] == "invalid token"
    assert refuses(opened(client, renewed["access_token"]))
    assert client.post("/auth/refresh", json={"refresh_token": renewed["refresh_token"]}).status_code == 400
    events = admin.get("/audit", params={"event": "token.refresh_reused"}).json()["events"]
    (event,) = [item for item in events if item["details"]["for_user"] == "mallory"]
    assert (event["outcome"], event["client_ip"]) == ("denied", "127.0.0.1")
    assert event["request_id"] == replayed.headers["x-request-id"]


def test_logout_ends_the_token_that_was_used_and_the_family_given(client: httpx.Client, admin: httpx.Client) -> None:
    pair = pair_for(client, new_key(admin, "ada", "safe.open")["api_key"])
    body = {"refresh_token": pair["refresh_token"]}
    assert client.post("/auth/logout", json=body, headers=bearer(pair["access_token"])).status_code == 204
    assert refuses(opened(client, pair["access_token"]))
    assert client.post("/auth/refresh", json=body).status_code == 400
    assert refuses(client.post("/auth/logout", headers=bearer(pair["access_token"])))


def test_logout_without_a_token_is_refused(client: httpx.Client, admin: httpx.Client) -> None:
    assert client.post("/auth/logout").status_code == 401
    assert admin.post("/auth/logout").status_code == 401


@pytest.mark.parametrize("form", [True, False])
def test_revocation_answers_alike_whatever_the_token_is(
    client: httpx.Client, admin: httpx.Client, *, form: bool
) -> None:
    pair = pair_for(client, new_key(admin, "ada", "safe.open")["api_key"])
    for token in (pair["access_token"], pair["access_token"], "nothing", "a.b.c", pair["refresh_token"]):
        body = {"token": token, "token_type_hint": "nonsense"}
        answer = client.post("/auth/revoke", data=body) if form else client.post("/auth/revoke", json=body)
        assert (answer.status_code, answer.content) == (200, b"")
    assert refuses(opened(client, pair["access_token"]))
    assert client.post("/auth/refresh", json={"refresh_token": pair["refresh_token"]}).status_code == 400


def test_introspection_of_every_state(client: httpx.Client, admin: httpx.Client) -> None:
    key = new_key(admin, "ada", "safe.open", "host.read")
    pair = pair_for(client, key["api_key"])

    def introspected(token: str) -> dict[str, Any]:
        answer = admin.post("/auth/introspect", data={"token": token})
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        found: dict[str, Any] = answer.json()
        return found

    found = introspected(pair["access_token"])
    assert (found["active"], found["sub"], found["scope"]) == (True, "ada", "safe.open host.read")
    assert {"iss", "aud", "exp", "iat", "jti", "token_type"} <= set(found)
    assert (type(found["exp"]), type(found["iat"])) == (int, int)  # RFC 7662, section 2.2
    client.post("/auth/revoke", json={"token": pair["access_token"]})
    inactive = [pair["access_token"], pair["refresh_token"], key["api_key"], "x", "a.b.c", "ü", "x" * 10_000]
    for token in inactive:
        assert introspected(token) == {"active": False}


def test_introspection_needs_its_permission(client: httpx.Client, admin: httpx.Client) -> None:
    assert client.post("/auth/introspect", json={"token": "x"}).status_code == 401
    key = new_key(admin, "eve", "host.read")["api_key"]
    refused = client.post("/auth/introspect", json={"token": "x"}, headers={"x-api-key": key})
    assert (refused.status_code, refused.json()["missing"]) == (403, ["tokens.introspect"])


def test_revoked_key_ends_the_tokens_that_were_had_for_it(client: httpx.Client, admin: httpx.Client) -> None:
    key = new_key(admin, "ada", "safe.open")
    pair = pair_for(client, key["api_key"])
    assert not refuses(opened(client, pair["access_token"]))
    assert admin.delete(f"/api-keys/{key['key_id']}").status_code == 204
    assert refuses(opened(client, pair["access_token"]))
    assert client.post("/auth/refresh", json={"refresh_token": pair["refresh_token"]}).status_code == 400


def test_access_token_is_not_exchanged_for_another(client: httpx.Client, admin: httpx.Client) -> None:
    pair = pair_for(client, new_key(admin, "ada")["api_key"])
    refused = client.post("/auth/token", headers=bearer(pair["access_token"]))
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")
    assert client.post("/auth/token").status_code == 401


def test_credentials_of_a_plugin_are_exchanged_for_an_access_token(client: httpx.Client) -> None:
    answer = client.post("/auth/token", headers={"x-badge": "grace"})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert set(found) == {"access_token", "token_type", "expires_in"}
    assert 0 < found["expires_in"] <= 900
    assert opened(client, found["access_token"]).json() == ["grace", "token", None]


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("/auth/token", {"grant_type": "password"}, "unsupported_grant_type"),
        ("/auth/refresh", {}, "invalid_request"),
        ("/auth/refresh", {"refresh_token": 7}, "invalid_request"),
        ("/auth/refresh", {"refresh_token": "x.y.z"}, "invalid_grant"),
        ("/auth/revoke", {"token": ""}, "invalid_request"),
    ],
)
def test_malformed_request_for_a_token_says_the_code_of_the_standard(
    admin: httpx.Client, path: str, body: dict[str, Any], error: str
) -> None:
    answer = admin.post(path, json=body)
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("content", [b"{", b"[1]", b'"token"', b"\xff"])
def test_body_that_is_no_object_is_an_invalid_request(client: httpx.Client, content: bytes) -> None:
    answer = client.post("/auth/revoke", content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_body_that_is_neither_form_nor_json_is_refused(client: httpx.Client) -> None:
    answer = client.post("/auth/revoke", content=b"token=x", headers={"content-type": "text/plain"})
    assert answer.status_code == 415
    twice = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/auth/revoke", content=b"token=x&token=y", headers=twice).status_code == 400


@pytest.mark.parametrize("name", ["access_token", "token", "api_key"])
def test_token_in_the_url_is_never_looked_at(client: httpx.Client, admin: httpx.Client, name: str) -> None:
    key = new_key(admin, "ada", "safe.open")["api_key"]
    token = pair_for(client, key)["access_token"]
    for value in (key, token):
        refused = client.post(f"/actions/safe.open?{name}={value}")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Bearer realm="base04"')


def test_two_credentials_are_an_invalid_request(client: httpx.Client, server: Server) -> None:
    headers = {"x-api-key": server.admin_key, **bearer("x")}
    refused = client.get("/managers", headers=headers)
    assert refused.status_code == 400
    assert 'error="invalid_request"' in refused.headers["www-authenticate"]


@pytest.mark.parametrize("value", ["Bearer", "bearer x", "BEARER a.b.c"])
def test_scheme_of_a_token_is_known_in_any_spelling(client: httpx.Client, value: str) -> None:
    assert refuses(client.get("/managers", headers={"authorization": value}))


def test_public_keys_may_be_kept_for_a_while(client: httpx.Client) -> None:
    answer = client.get("/.well-known/jwks.json")
    assert (answer.status_code, answer.json()) == (200, {"keys": []})
    assert answer.headers["cache-control"] == "public, max-age=60"


def test_public_keys_verify_the_tokens(serve: Serve) -> None:
    server = serve(settings="managers: {jwt: {algorithm: ES256}}\n")
    with server.admin() as admin:
        token = admin.post("/auth/token").json()["access_token"]
        keys = admin.get("/.well-known/jwks.json").json()["keys"]
    from joserfc import jwk, jwt

    found = jwt.decode(token, jwk.KeySet.import_key_set({"keys": keys}), algorithms=["ES256"])
    assert found.claims["sub"] == "admin"
    assert all("d" not in key for key in keys)


def test_key_is_shown_rolled_and_changed(client: httpx.Client, admin: httpx.Client) -> None:
    key = new_key(admin, "carol", "safe.open", name="old")
    path = f"/api-keys/{key['key_id']}"
    shown = admin.get(path).json()
    assert (shown["name"], "api_key" in shown) == ("old", False)
    rolled = admin.post(f"{path}/roll", json={"overlap": 3600})
    assert rolled.status_code == 201
    new = rolled.json()
    for one in (key, new):
        assert client.get("/health", headers={"x-api-key": one["api_key"]}).status_code == 200
        assert client.post("/actions/safe.open", headers={"x-api-key": one["api_key"]}).status_code == 200
    assert admin.post(f"{path}/roll").status_code == 409
    at_once = admin.post(f"/api-keys/{new['key_id']}/roll").json()
    assert client.post("/actions/safe.open", headers={"x-api-key": new["api_key"]}).status_code == 401
    assert client.post("/actions/safe.open", headers={"x-api-key": at_once["api_key"]}).status_code == 200
    events = admin.get("/audit", params={"event": "api_key.*"}).json()["events"]
    told = [event["event"] for event in events if event["details"].get("for_user") == "carol"]
    assert told == ["api_key.rolled", "api_key.rolled", "api_key.created"]


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_key_that_is_not_there_is_not_found(admin: httpx.Client, server: Server, method: str) -> None:
    for name in ("nothing", "A" * 12, "x" * 1000, server.admin_key):
        answer = admin.request(method, f"/api-keys/{name}", json={"permissions": []} if method == "PATCH" else None)
        assert answer.status_code == 404
        assert server.admin_key not in answer.text


@pytest.mark.parametrize("body", [{"overlap": -1}, {"overlap": "1h"}, {"other": 1}])
def test_roll_that_is_not_described_well_is_refused(admin: httpx.Client, body: Any) -> None:
    key = new_key(admin, "carol")
    assert admin.post(f"/api-keys/{key['key_id']}/roll", json=body).status_code == 422
    assert admin.get(f"/api-keys/{key['key_id']}").json()["revoked_at"] is None


def test_secrets_are_in_no_log_and_no_audit_event(client: httpx.Client, admin: httpx.Client, server: Server) -> None:
    key = new_key(admin, "dora", "safe.open")
    pair = pair_for(client, key["api_key"])
    client.post("/auth/revoke", json={"token": pair["refresh_token"]})
    opened(client, pair["access_token"])
    events = json.dumps(admin.get("/audit", params={"limit": 1000}).json())
    for secret in (key["api_key"], pair["access_token"], pair["refresh_token"]):
        assert secret not in events
        assert secret not in server.stderr.text


def test_revocation_and_keys_outlive_the_host(serve: Serve, tmp_path: Path) -> None:
    first = serve()
    with first.admin() as admin:
        pair = admin.post("/auth/token").json()
        kept = admin.post("/auth/token").json()
        assert admin.post("/auth/revoke", json={"token": pair["access_token"]}).status_code == 200
    assert first.stop() == 0
    second = serve(tmp_path)
    with second.client() as client:
        assert client.get("/managers", headers=bearer(pair["access_token"])).status_code == 401
        assert client.get("/managers", headers=bearer(kept["access_token"])).status_code == 200
    assert second.stop() == 0
