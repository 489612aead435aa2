"""Action files under a host that serves: saved while it runs, hostile, and called over a WebSocket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from serve_kit import PATIENCE_S, Server, run_base04, write

PACK = """
pack: live
version: {version}
actions:
  run:
    handler: .handlers:anything
    access: public
    parameters: {{n: {{type: integer, default: 1}}, pin: {{type: string, minLength: 4, secret: true}}}}
"""
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 20))
SETTINGS = "managers: {action_discovery: {folders: [actions]}}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "base04.yaml", SETTINGS)
    write(tmp_path / "actions" / "live.yaml", PACK.format(version="1.0.0"))
    write(tmp_path / "actions" / "handlers.py", "async def anything(**values): return values\n")
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with Server(folder) as server:
        yield server


def test_saved_file_serves_and_a_faulty_one_leaves_the_last_good_version(server: Server, folder: Path) -> None:
    with server.admin() as client:
        assert client.get("/actions/live.run").json()["pack_version"] == "1.0.0"
        write(folder / "actions" / "live.yaml", PACK.format(version="1.1.0"))
        server.stderr.wait_for("action folders were read anew")
        assert client.get("/actions/live.run").json()["pack_version"] == "1.1.0"
        write(folder / "actions" / "live.yaml", PACK.format(version="1.2.0") + "  more: {handlr: x}\n")
        server.stderr.wait_for('"last_good_version": ["live"]')
        assert client.post("/actions/live.run", json={}).json() == {"n": 1}
        listing = client.get("/actions").json()
        assert listing["actions"]["live.run"]["pack_version"] == "1.1.0"
        assert "did you mean 'handler'?" in json.dumps(listing["faults"])
    assert server.stop() == 0


def test_action_runs_over_a_websocket_with_faults_and_without_secrets(server: Server) -> None:
    with server.admin() as client:
        token = client.post("/auth/token", json={}).json()["access_token"]
    url = server.url.replace("http://", "ws://") + "/ws"
    headers = {"authorization": f"Bearer {token}"}
    with connect(url, additional_headers=headers, open_timeout=PATIENCE_S) as socket:
        answers = []
        for number, args in enumerate(({"n": 3.0}, {"n": "x", "pin": "no"}), 1):
            socket.send(json.dumps({"type": "call", "id": number, "action": "live.run", "args": args}))
            while True:
                message = json.loads(socket.recv(PATIENCE_S))
                if message.get("id") == number:
                    answers.append(message)
                    break
    assert answers[0]["result"] == {"n": 3}
    error = answers[1]["error"]
    assert error["code"] == "invalid_input"
    assert {fault["pointer"] for fault in error["faults"]} == {"/n", "/pin"}
    assert '"no"' not in json.dumps(answers[1])
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("#" * 10 * 1024 * 1024, ":1:1: The file is larger than 1024 KiB"),
        (BOMB, "values."),
        ("pack: " + "[" * 100_000, ":1:71: This is nested more than 64 deep."),
        ("pack: hostile\npack: hostile\n", ":2:1: The key 'pack' is here twice: it stands in line 1 already."),
        ("pack: hostile\nactions:\n\trun: x\n", ":3:1: This is not YAML: a tab cannot indent, write spaces."),
        ("pack: hostile\n1: x\n", ':2:1: A key must be a string: write "1" in quotes.'),
        ("pack: !!python/object/apply:os.system [ls]\n", ":1:7: The tag"),
    ],
    ids=["10 MB", "bomb", "deep", "duplicate", "tab", "number", "tag"],
)  # fmt: skip
def test_hostile_file_is_refused_with_its_place_and_takes_no_other_down(folder: Path, content: str, place: str) -> None:
    hostile = write(folder / "actions" / "hostile.yaml", content)
    ran = run_base04("actions", "validate", cwd=folder, BASE04_LOG__LEVEL="error")
    assert ran.returncode == 1
    assert any(line.startswith(str(hostile)) and place in line for line in ran.stdout.splitlines()), ran.stdout
    assert (
        run_base04("actions", "run", "live.run", "n=2", cwd=folder, BASE04_LOG__LEVEL="error").stdout
        == '{\n  "n": 2\n}\n'
    )
