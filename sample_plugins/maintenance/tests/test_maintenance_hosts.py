"""Closing and opening whole hosts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from maintenance_host import PATIENCE_S, MaintenanceHost
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MaintenanceHost]:
    folder = tmp_path_factory.mktemp("host")
    with MaintenanceHost(folder / "one", folder) as host:
        yield host


@pytest.fixture
def host(running: MaintenanceHost) -> Iterator[MaintenanceHost]:
    yield running
    assert running.run("maintenance", "off").returncode == 0


def until(client: httpx.Client, status: int) -> httpx.Response:
    """Ask until the answer has a status: another process has to hear of the change first."""
    for _ in range(100_000):
        answer = client.post("/actions/work.work")
        if answer.status_code == status:
            return answer
    raise AssertionError(f"It never answers {status}.")


def test_command_closes_and_opens(host: MaintenanceHost) -> None:
    with host.client() as client:
        assert client.post("/actions/work.work").json() == "done"
        closed = host.run("maintenance", "on", "--message", "We move.", "--for", "30m")
        assert closed.returncode == 0
        assert "until" in closed.stdout
        assert "We move." in closed.stdout
        refused = client.post("/actions/work.work")
        assert refused.status_code == 503
        assert refused.headers["content-type"] == "application/problem+json"
        assert 1700 < int(refused.headers["retry-after"]) <= 1800
        assert (refused.json()["status"], refused.json()["detail"]) == (503, "We move.")
        assert host.run("maintenance", "status").returncode == 1
        assert host.run("maintenance", "off").stdout == "The application is open.\n"
        assert host.run("maintenance", "off").stdout == "The application was open.\n"
        assert host.run("maintenance", "status").returncode == 0
        assert client.post("/actions/work.work").json() == "done"


def test_everything_but_what_is_to_stay_open_is_closed(host: MaintenanceHost) -> None:
    host.run("maintenance", "on")
    with host.client() as client:
        for path in ("/actions", "/nothing", "/", "/healthy", "/maintenance-of-others", "/auth/../actions"):
            answer = client.get(path)
            assert answer.status_code in (404, 503), path
            assert path == "/auth/../actions" or answer.status_code == 503, path
        for path in ("/health", "/health/live", "/health/ready", "/maintenance", "/.well-known/jwks.json"):
            assert client.get(path).status_code == 200, path
        assert client.get("/metrics").status_code == 401
        assert client.get("/maintenance").json()["closed"] is True
        assert client.get("/actions").headers["retry-after"] == "60"


def test_those_who_may_pass_are_let_in(host: MaintenanceHost) -> None:
    keys = {name: host.key(name, *held) for name, held in {"admin": ["*"], "ada": ["maintenance.*"], "bob": []}.items()}
    host.run("maintenance", "on")
    for name, status in {"admin": 200, "ada": 200, "bob": 503}.items():
        with host.client(keys[name]) as client:
            assert client.post("/actions/work.work").status_code == status, name
            token = client.post("/auth/token").json()["access_token"]
        with host.client(authorization=f"Bearer {token}") as client:
            assert client.post("/actions/work.work").status_code == status, name


def test_wrong_credentials_are_refused_by_the_host(host: MaintenanceHost) -> None:
    host.run("maintenance", "on")
    for headers in ({"x-api-key": "b04_guess"}, {"authorization": "Bearer guess"}):
        with host.client(**headers) as client:
            assert client.get("/actions").status_code == 401


def test_only_those_with_the_permission_close(host: MaintenanceHost) -> None:
    with host.client() as stranger, host.client(host.key("eve", "maintenance.pass")) as eve:
        assert stranger.put("/maintenance", json={}).status_code == 401
        assert stranger.delete("/maintenance").status_code == 401
        assert eve.put("/maintenance", json={}).status_code == 403
    with host.client(host.key("ada", "maintenance.write", "maintenance.pass")) as ada:
        assert ada.put("/maintenance", json={"message": "Moving", "duration": 90}).json()["message"] == "Moving"
        assert ada.put("/maintenance", json={"message": "Still moving"}).json()["ends_at"] is None
        assert ada.delete("/maintenance").json() == {"changed": True}


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"nonsense",
        b'{"message": 5}',
        b'{"duration": -1}',
        b'{"duration": "soon"}',
        b'{"extra": 1}',
        b"x" * 20_000,
        b'{"duration": 1e400}',
        json.dumps({"message": "x" * 2001}).encode(),
    ],
)
def test_body_that_says_nothing_usable_is_refused(host: MaintenanceHost, content: bytes) -> None:
    with host.client(host.key("ada", "maintenance.write")) as ada:
        answer = ada.put("/maintenance", content=content)
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:base04:problem:invalid-input")
        assert ada.get("/maintenance").json() == {"closed": False}


def test_browsers_get_a_page_on_which_text_is_text(host: MaintenanceHost) -> None:
    message = "<script>alert(1)</script> & \"quotes\" 'too'\nsecond line {title}"
    host.run("maintenance", "on", "--message", message)
    accept = "text/html,application/xhtml+xml,application/json;q=0.5"
    with host.client(accept=accept) as browser:
        refused = browser.get("/actions")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "60")
        assert refused.headers["content-type"].startswith("text/html")
        assert refused.headers["content-security-policy"].startswith("default-src 'none'")
        assert "<script" not in refused.text
        assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;quotes&quot;" in refused.text
        assert "second line {title}" in refused.text
        own = browser.get("/maintenance")
        assert (own.status_code, own.text) == (200, refused.text)
    with host.client(accept="application/json, text/html") as program:
        assert program.get("/actions").json()["detail"] == message


def test_handshakes_are_refused_and_calls_of_open_connections_too(host: MaintenanceHost) -> None:
    with host.client(host.key("ada")) as client:
        token = client.post("/auth/token").json()["access_token"]
    address, headers = f"ws://{host.host}:{host.port}/ws", {"authorization": f"Bearer {token}"}

    def call(socket: Any) -> dict[str, Any]:
        socket.send(json.dumps({"type": "call", "id": 1, "action": "work.work"}))
        while True:
            message: dict[str, Any] = json.loads(socket.recv(PATIENCE_S))
            if message.get("id") == 1:
                return message

    with connect(address, additional_headers=headers, open_timeout=PATIENCE_S) as socket:
        assert call(socket)["result"] == "done"
        host.run("maintenance", "on", "--message", "We move.")
        error = call(socket)["error"]
        assert (error["code"], error["message"], error["retry_after"]) == ("unavailable", "We move.", 60.0)
        with pytest.raises(InvalidStatus) as caught:
            connect(address, additional_headers=headers, open_timeout=PATIENCE_S)
        assert caught.value.response.status_code == 503
        assert caught.value.response.headers["retry-after"] == "60"
        host.run("maintenance", "off")
        assert call(socket)["result"] == "done"


def test_end_that_was_told_opens_by_itself(host: MaintenanceHost) -> None:
    host.run("maintenance", "on", "--for", "1s")
    with host.client() as client:
        until(client, 200)
        assert client.get("/maintenance").json() == {"closed": False}


def test_state_that_somebody_else_has_spoilt_closes_nothing(host: MaintenanceHost) -> None:
    host.run("maintenance", "on")
    with host.client(host.key("admin", "*")) as admin, host.client() as client:
        spoilt = {"data": {"closed": "yes", "message": ["<b>"], "since": "never"}}
        admin.put("/state/maintenance", json=spoilt, headers={"if-match": "*"}).raise_for_status()
        until(client, 200)
        host.run("maintenance", "on", "--message", "Again.")
        assert client.post("/actions/work.work").json()["detail"] == "Again."
        admin.delete("/state/maintenance").raise_for_status()
        until(client, 200)


def test_all_processes_follow_and_restarts_change_nothing(tmp_path: Path) -> None:
    with MaintenanceHost(tmp_path / "one", tmp_path) as one, MaintenanceHost(tmp_path / "two", tmp_path) as two:
        with one.client() as first, two.client() as second:
            one.run("maintenance", "on", "--message", "We move.")
            assert until(first, 503).json()["detail"] == until(second, 503).json()["detail"] == "We move."
        two.restart()
        with one.client() as first, two.client() as second:
            assert second.post("/actions/work.work").status_code == 503
            two.run("maintenance", "off")
            until(second, 200)
            until(first, 200)


def test_command_works_while_no_host_runs(tmp_path: Path) -> None:
    host = MaintenanceHost(tmp_path / "one", tmp_path)
    host.write()
    assert host.run("maintenance", "on", "--message", "We move.").returncode == 0
    with host, host.client() as client:
        assert client.post("/actions/work.work").json()["detail"] == "We move."
    assert host.run("maintenance", "off").stdout == "The application is open.\n"


def test_host_without_the_manager_is_open(tmp_path: Path) -> None:
    with MaintenanceHost(tmp_path / "one", tmp_path, provider="none") as host, host.client() as client:
        assert client.post("/actions/work.work").json() == "done"
        assert host.run("maintenance", "on").returncode == 1
