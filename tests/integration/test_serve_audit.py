"""The audit log of a whole host."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from serve_kit import PATIENCE_S, Server, run_base04, write

Serve = Callable[..., Server]


def events_of(client: httpx.Client, **parameters: Any) -> list[dict[str, Any]]:
    answer = client.get("/audit", params=parameters)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store"), answer.text
    found: list[dict[str, Any]] = answer.json()["events"]
    return found


def test_denials_are_told_once_and_then_counted(serve: Serve) -> None:
    limits = "managers: {rate_limiter: {limits: {ip: 1000000/minute, user: [], api_key: []}}}\n"
    server = serve(settings="audit: {window: 300ms}\n" + limits)
    with server.client() as client, server.admin() as admin:
        for _ in range(30):
            assert client.get("/managers", headers={"x-api-key": "b04_bad"}).status_code == 401
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            denied = events_of(admin, event="auth.denied")
            if sum(event["details"].get("count", 1) for event in denied) == 30:
                break
        assert sum(event["details"].get("count", 1) for event in denied) == 30
        assert len(denied) < 30
        assert {event["client_ip"] for event in denied} == {"127.0.0.1"}
        assert all("malformed" in event["details"]["reason"] for event in denied)
    told = [line for line in server.stderr.text.splitlines() if '"a caller was refused"' in line]
    assert 1 <= len(told) < 30


def test_counts_that_wait_are_written_at_the_end(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    with server.client() as client:
        for _ in range(5):
            client.get("/managers")
        client.get("/managers", headers={"x-api-key": "bad"})
    assert server.stop() == 0
    done = run_base04("audit", "--json", "--outcome", "denied", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["events"]
    assert sorted(event["details"].get("count", 1) for event in found) == [1, 1, 4]


def test_events_are_found_by_what_is_known_of_them(serve: Serve) -> None:
    server = serve()
    began = time.time()
    with server.admin() as admin, server.client() as client:
        made = admin.post("/api-keys", json={"user_id": "ada"}, headers={"x-request-id": "request-7"}).json()
        admin.delete(f"/api-keys/{made['key_id']}")
        client.get("/managers")
        told = [event["event"] for event in events_of(admin)]
        assert told == ["auth.denied", "api_key.revoked", "api_key.created", "api_key.created"]
        first = events_of(admin)[-1]
        assert (first["user_id"], first["details"]["for_user"]) == ("local", "admin")
        assert first["details"]["permissions"] == ["*"]
        (created,) = events_of(admin, request_id="request-7")
        assert (created["user_id"], created["details"]["for_user"]) == ("admin", "ada")
        assert began - 1 < created["at"] < time.time() + 1
        assert len(events_of(admin, user="admin", outcome="success")) == 2
        assert len(events_of(admin, event="api_key.*")) == 3
        assert events_of(admin, event="api_key") == []
        assert len(events_of(admin, since="1h")) == 4
        assert len(events_of(admin, since=first["at"] + 0.000_01)) == 3
        assert events_of(admin, until=first["at"] - 1) == []
        assert events_of(admin, since="2999-01-01T00:00") == []


def test_pages_hold_every_event_once(serve: Serve) -> None:
    server = serve()
    with server.admin() as admin:
        for number in range(7):
            admin.post("/api-keys", json={"user_id": f"user-{number}"})
        names, before = [], None
        while True:
            page = admin.get("/audit", params={"limit": 3, **({"before": before} if before else {})}).json()
            names += [event["details"]["for_user"] for event in page["events"]]
            before = page["next"]
            if before is None:
                break
    assert names == [*(f"user-{number}" for number in reversed(range(7))), "admin"]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("outcome=good", "/outcome"),
        ("limit=0", "/limit"),
        ("limit=1001", "/limit"),
        ("limit=many", "/limit"),
        ("since=yesterday", "/since"),
        ("until=9999999999999999", "/until"),
        ("before=XYZ", "/before"),
        ("usr=ada", "/usr"),
    ],
)
def test_question_that_cannot_be_answered_is_refused(serve: Serve, query: str, pointer: str) -> None:
    server = serve()
    with server.admin() as admin:
        answer = admin.get(f"/audit?{query}")
        assert answer.status_code == 422
        assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]


def test_audit_log_needs_its_permission(serve: Serve) -> None:
    server = serve()
    with server.client() as client, server.admin() as admin:
        assert client.get("/audit").status_code == 401
        reader = admin.post("/api-keys", json={"user_id": "eve", "permissions": ["audit.read"]}).json()["api_key"]
        other = admin.post("/api-keys", json={"user_id": "eve", "permissions": ["host.read"]}).json()["api_key"]
        assert client.get("/audit", headers={"x-api-key": reader}).status_code == 200
        refused = client.get("/audit", headers={"x-api-key": other})
        assert (refused.status_code, refused.json()["missing"]) == (403, ["audit.read"])


def test_command_asks_the_running_host_or_one_of_its_own(serve: Serve, tmp_path: Path) -> None:
    made = run_base04("keys", "create", "--user", "ada", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    alone = run_base04("audit", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    assert "api_key.created" in alone.stdout
    assert "for_user=ada" in alone.stdout
    assert made.stdout.strip() not in alone.stdout
    server = serve()
    assert server.url
    assert run_base04("keys", "create", "--user", "bob", cwd=tmp_path).returncode == 0
    found = json.loads(run_base04("audit", "--event", "api_key.created", "--json", cwd=tmp_path).stdout)["events"]
    assert [(event["user_id"], event["details"]["for_user"]) for event in found] == [("local", "bob"), ("local", "ada")]
    first = run_base04("audit", "--limit", "1", cwd=tmp_path)
    assert "There are more: --before" in first.stdout
    assert run_base04("audit", "--outcome", "good", cwd=tmp_path).returncode == 1
    assert run_base04("audit", "--user", "nobody", cwd=tmp_path).stdout == "There are no such events.\n"


BROKEN_AUDIT = """
from starlette.responses import Response
from starlette.routing import Route
from base04_hookspecs import hookimpl

async def break_audit(request):
    database = request.app.manager.get_db_manager()
    await database.execute_query("DROP TABLE base04_audit")
    return Response()

@hookimpl
def routes():
    return [Route("/break", break_audit)]
"""


def test_what_cannot_be_written_is_not_answered(serve: Serve, tmp_path: Path) -> None:
    write(tmp_path / "plugins" / "broken_audit.py", BROKEN_AUDIT)
    server = serve(settings="plugins: {paths: [plugins]}\n")
    with server.admin() as admin:
        assert admin.get("/break").status_code == 200
        before = [key["key_id"] for key in admin.get("/api-keys").json()["api_keys"]]
        refused = admin.post("/api-keys", json={"user_id": "ada", "permissions": ["*"]})
        assert (refused.status_code, refused.json()["title"]) == (503, "Unavailable just now")
        assert "api_key" not in refused.json()
        after = [key["key_id"] for key in admin.get("/api-keys").json()["api_keys"]]
        assert after == before  # nobody has the new one, so it is revoked
        refused = admin.post("/auth/token")
        assert refused.status_code == 503
        assert "access_token" not in refused.text
        assert admin.get("/managers").status_code == 200  # what is not audited goes on
    lost = [json.loads(line) for line in server.stderr.text.splitlines() if "cannot be written" in line]
    assert [line["audit_event"] for line in lost] == ["api_key.created", "token.issued"]
    assert (lost[0]["user_id"], lost[0]["details"]["for_user"]) == ("admin", "ada")
