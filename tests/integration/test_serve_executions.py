"""Hosts that are killed while actions run, and the command line for what was run."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from websockets.sync.client import connect

from serve_kit import PATIENCE_S, Server, run_base04, write

Serve = Callable[..., Server]

SETTINGS = """
    managers: {action_discovery: {folders: [actions]}}
    executions: {lease: 1s}
    log: {format: json}
"""
PACK = """
    pack: jobs
    version: 1.0.0
    actions:
      charge:
        handler: .jobs:work
        access: public
        parameters: {name: {type: string}}
        required: [name]
      copy:
        handler: .jobs:work
        access: public
        idempotent: true
        parameters: {name: {type: string}}
        required: [name]
"""
HANDLERS = """
    import asyncio
    from pathlib import Path

    from base04_hookspecs.action_discovery import ActionContext


    async def work(name: str, context: ActionContext) -> int:
        runs = Path(name + ".runs")
        with runs.open("a") as file:
            file.write("run\\n")
        context.progress(1, 2, "half")
        context.log.info("the work has begun")
        while not Path(name + ".go").exists():
            await asyncio.sleep(0.01)
        return len(runs.read_text().splitlines())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "actions/jobs.yaml", PACK)
    write(tmp_path / "actions/jobs.py", HANDLERS)
    return tmp_path


def runs(folder: Path, name: str = "a") -> int:
    """Return how often the handler was called."""
    return len((folder / f"{name}.runs").read_text().splitlines())


def killed_while_it_works(server: Server, action: str, **headers: str) -> None:
    """Ask for an action, and kill the host when its handler has begun."""

    def ask() -> None:
        with server.client() as client, pytest.raises(httpx.HTTPError):
            client.post(f"/actions/{action}", json={"name": "a"}, headers=headers)

    asking = threading.Thread(target=ask)
    asking.start()
    assert server.stderr.wait_for("the work has begun")
    server.signal(signal.SIGKILL)
    server.wait()
    asking.join(PATIENCE_S)


def answered(client: httpx.Client, action: str, **headers: str) -> httpx.Response:
    """Ask again until the lease of the dead process has passed."""
    end = time.monotonic() + PATIENCE_S
    while True:
        answer = client.post(f"/actions/{action}", json={"name": "a"}, headers=headers)
        if answer.status_code != 409 or time.monotonic() > end:
            return answer
        time.sleep(0.02)  # there is nothing to wait for but time, and only so many requests a minute


def test_request_whose_host_was_killed_is_unknown_and_never_run_twice(serve: Serve, folder: Path) -> None:
    key = {"idempotency-key": '"charge-1"'}
    killed_while_it_works(serve(settings=SETTINGS), "jobs.charge", **key)
    (folder / "a.go").touch()
    with serve().client() as client:
        for _ in range(2):
            answer = answered(client, "jobs.charge", **key)
            assert (answer.status_code, answer.json()["type"]) == (502, "urn:base04:problem:outcome-unknown")
        assert runs(folder) == 1
        fresh = client.post("/actions/jobs.charge", json={"name": "a"}, headers={"idempotency-key": '"charge-2"'})
        assert (fresh.status_code, fresh.json()) == (200, 2)


def test_request_whose_host_was_killed_runs_again_where_that_does_no_harm(serve: Serve, folder: Path) -> None:
    key = {"idempotency-key": '"copy-1"'}
    killed_while_it_works(serve(settings=SETTINGS), "jobs.copy", **key)
    (folder / "a.go").touch()
    with serve().client() as client:
        assert [answered(client, "jobs.copy", **key).json() for _ in range(2)] == [2, 2]
    assert runs(folder) == 2


def ended(client: httpx.Client, location: str) -> dict[str, Any]:
    """Follow an execution to its end."""
    with client.stream("GET", f"{location}/events") as stream:
        assert stream.status_code == 200
        lines = iter(stream.iter_lines())
        for line in lines:
            if line == "event: end":
                found: dict[str, Any] = json.loads(next(lines).removeprefix("data: "))
                return found
    raise AssertionError("the stream ended without the end of the execution")


@pytest.mark.parametrize(
    ("action", "status", "times"), [("jobs.charge", "interrupted", 1), ("jobs.copy", "succeeded", 2)]
)
def test_execution_whose_host_was_killed_is_interrupted_or_run_again(
    serve: Serve, folder: Path, action: str, status: str, times: int
) -> None:
    server = serve(settings=SETTINGS)
    with server.client() as client:
        answer = client.post(f"/actions/{action}", json={"name": "a"}, headers={"prefer": "respond-async"})
        assert answer.status_code == 202
        assert server.stderr.wait_for("the work has begun")
    server.signal(signal.SIGKILL)
    server.wait()
    (folder / "a.go").touch()
    server = serve()
    with server.client() as client:
        found = ended(client, answer.headers["location"])
    assert (found["status"], found["attempt"], runs(folder)) == (status, times, times)
    assert server.stop() == 0


def test_stream_of_events_ends_when_the_host_stops(serve: Serve, folder: Path) -> None:
    server = serve(settings=SETTINGS + "    server: {drain_timeout: 100ms}\n")
    with server.client() as client:
        answer = client.post("/actions/jobs.copy", json={"name": "a"}, headers={"prefer": "respond-async"})
        with client.stream("GET", f"{answer.headers['location']}/events") as stream:
            lines = stream.iter_lines()
            assert next(line for line in lines if line.startswith("event:")) == "event: progress"
            server.signal()
            assert not [line for line in lines if line == "event: end"]
    assert server.wait() == 0


def test_caller_with_a_token_runs_in_the_background_and_sees_it_end(serve: Serve, folder: Path) -> None:
    server = serve(folder, settings=SETTINGS)
    write(folder / "a.go", "")
    with server.admin() as admin:
        token = admin.post("/auth/token").json()["access_token"]
    with server.client() as client:
        client.headers["authorization"] = f"Bearer {token}"
        begun = client.post("/actions/jobs.copy", json={"name": "a"}, headers={"prefer": "respond-async, wait=20"})
        assert (begun.status_code, begun.json()) == (200, 1), begun.text
        (listed,) = client.get("/executions?mode=background").json()["executions"]
        assert (listed["user_id"], listed["status"]) == ("admin", "succeeded")
    assert server.stop() == 0


def test_user_hears_of_their_executions_over_a_websocket(serve: Serve, folder: Path) -> None:
    server = serve(settings=SETTINGS)
    with server.admin() as client:
        token = client.post("/auth/token").json()["access_token"]
        address = server.url.replace("http://", "ws://") + "/ws"
        with connect(address, additional_headers={"authorization": f"Bearer {token}"}) as socket:

            def received(kind: str) -> dict[str, Any]:
                while True:
                    message: dict[str, Any] = json.loads(socket.recv(PATIENCE_S))
                    if message["type"] == kind:
                        return message

            user = received("auth_ok")["user_id"]
            socket.send(json.dumps({"type": "join", "id": 1, "room": f"user_{user}"}))
            received("ack")
            answer = client.post("/actions/jobs.copy", json={"name": "a"}, headers={"prefer": "respond-async"})
            seen: list[dict[str, Any]] = []
            while not seen or seen[-1]["status"] == "running":
                event = received("event")
                assert (event["room"], event["event"]) == (f"user_{user}", "execution")
                seen.append(event["data"])
                if seen[-1]["progress"] is not None:
                    (folder / "a.go").touch()
    assert {row["id"] for row in seen} == {answer.json()["id"]}
    assert (seen[-1]["status"], seen[-1]["result"]) == ("succeeded", 1)
    assert seen[-1]["progress"] == {"done": 1, "total": 2, "message": "half"}
    assert server.stop() == 0


def test_executions_are_listed_shown_and_cancelled_from_the_command_line(serve: Serve, folder: Path) -> None:
    server = serve(settings=SETTINGS)
    assert server.url
    begun = run_base04("actions", "run", "--background", "jobs.copy", "name=a", cwd=folder)
    execution = json.loads(begun.stdout)["id"]
    assert server.stderr.wait_for("the work has begun")
    listed = json.loads(run_base04("executions", "list", "--background", "--json", cwd=folder).stdout)
    assert [(row["id"], row["status"], row["user_id"]) for row in listed["executions"]] == [
        (execution, "running", "local")
    ]
    cancelled = run_base04("executions", "cancel", execution, cwd=folder)
    assert cancelled.returncode == 0
    with server.admin() as client:
        assert ended(client, f"/executions/{execution}")["status"] == "cancelled"
    shown = run_base04("executions", "show", execution, cwd=folder)
    assert "status    cancelled" in shown.stdout
    assert "progress  1/2 half" in shown.stdout
    (folder / "b.go").touch()
    waited = run_base04("actions", "run", "jobs.copy", "name=b", cwd=folder)
    assert (waited.returncode, waited.stdout) == (0, "1\n")
    dry = run_base04("actions", "run", "--dry-run", "jobs.copy", cwd=folder)
    assert (dry.returncode, "/name: This is required." in dry.stderr) == (1, True)
    table = run_base04("executions", "list", "--status", "succeeded", cwd=folder)
    assert "jobs.copy" in table.stdout
    missing = run_base04("executions", "show", "nothing", cwd=folder)
    assert (missing.returncode, "There is no execution 'nothing'." in missing.stderr) == (1, True)
    assert server.stop() == 0


def test_command_without_a_running_host_waits_for_a_background_action_and_cannot_leave_one(folder: Path) -> None:
    write(folder / "base04.yaml", SETTINGS)
    (folder / "a.go").touch()
    write(folder / "actions/jobs.yaml", PACK.replace("access: public", "mode: background"))
    waited = run_base04("actions", "run", "jobs.copy", "name=a", cwd=folder)
    assert (waited.returncode, waited.stdout) == (0, "1\n")
    refused = run_base04("actions", "run", "--background", "jobs.copy", "name=a", cwd=folder)
    assert refused.returncode == 2
    assert "base04 serve" in refused.stderr
    listed = run_base04("executions", "list", "--json", cwd=folder)
    assert [row["status"] for row in json.loads(listed.stdout)["executions"]] == ["succeeded"]
