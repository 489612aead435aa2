"""The official JavaScript client of Socket.IO against two hosts that share a Redis."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from base04.testing.servers.redis import RedisServer
from postgres_kit import postgres, postgres_url
from serve_kit import PATIENCE_S, Output, Server

Serve = Callable[..., Server]
__all__ = ["postgres", "postgres_url"]

CLIENT = "socket.io-client@4.8.4"
SCRIPT = Path(__file__).parent.parent / "data" / "socketio" / "two_clients.mjs"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the client into a folder of its own, with the script that uses it."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("There is no npm or node: run 'apt-get install nodejs npm'")
    folder = tmp_path_factory.mktemp("socketio")
    (folder / "package.json").write_text("{}")
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", CLIENT]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    shutil.copy(SCRIPT, folder)
    return folder


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    place = tmp_path / "redis"
    place.mkdir()
    with RedisServer(place) as server:
        yield server


@pytest.mark.parametrize(("transports", "used"), [("", "websocket"), ("polling", "polling")])
def test_official_client_joins_and_receives_across_two_hosts(
    serve: Serve, tmp_path: Path, redis: RedisServer, postgres_url: str, folder: Path, transports: str, used: str
) -> None:
    settings = {
        "managers": {
            "redis": {"provider": "server", "server": {"url": redis.url}},
            "database": {"provider": "postgresql", "postgresql": {"url": postgres_url}},
            "vault": {"file": {"path": str(tmp_path / "secrets.json")}},
            "websocket": {"provider": "socketio"},
        }
    }
    one = serve(tmp_path / "one", settings=json.dumps(settings))
    assert one.url
    two = serve(tmp_path / "two", settings=json.dumps(settings))
    with one.admin() as admin:
        token = admin.post("/auth/token").json()["access_token"]
    command = ["node", "two_clients.mjs", one.url, two.url, token, "/socket.io/", transports]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        output = Output(process.stdout)
        try:
            assert output.wait_for('"waiting"') is not None, output.text + one.stderr.text
            assert two.stop() == 0
            assert one.stop() == 0
            assert process.wait(PATIENCE_S) == 0, output.text
        finally:
            process.kill()
    steps = {step["step"]: step["value"] for step in map(json.loads, output.wait_for_end().splitlines())}
    assert steps["refused"] == {"message": "The token is not valid.", "data": {"code": "unauthenticated"}}
    assert steps["connected"] == ["string", "string"]
    assert steps["joined"] == [{"result": None}, {"result": None}]
    assert steps["forbidden"] == {"result": None}  # whoever holds the admin key may join every room
    assert steps["emitted"] == {"result": None}
    data, about = steps["received"]
    assert data == {"n": [1, "zwei", None]}
    assert about["room"] == "news"
    assert isinstance(about["sender"], str)
    assert steps["called"]["error"]["code"] == "unknown_action"
    assert steps["gone"][0] == "io client disconnect"
    assert steps["waiting"] == used
    assert steps["closing"] in ((1012, None) if used == "polling" else (1012,))
    assert steps["closed"] in ("transport close", "transport error")
