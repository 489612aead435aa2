"""The examples of the pages on clients, against a real host."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from base04.settings import HostSettings
from base04_builtin.websocket.socketio.settings import SocketIOSettings
from docs_kit import DOCS, EXAMPLES, blocks
from serve_kit import PATIENCE_S, Server

CLIENTS = EXAMPLES / "clients"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("host")) as server:
        assert server.url
        yield server


def token(host: Server) -> str:
    with host.admin() as admin:
        return str(admin.post("/auth/token").json()["access_token"])


def test_python_client(host: Server) -> None:
    environ = {**os.environ, "SOCKET_URL": host.url.replace("http", "ws") + "/ws", "TOKEN": token(host)}
    done = subprocess.run(
        [sys.executable, CLIENTS / "listen.py"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("here: admin\nadmin: Hello\n", "")


def test_module_is_served_and_does_what_the_page_says(host: Server, tmp_path: Path) -> None:
    with host.client() as client:
        answer = client.get("/static/base04.js")
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
        again = client.get("/static/base04.js", headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    node = shutil.which("node")
    if node is None or subprocess.run([node, "--experimental-websocket", "--eval", "0"], check=False).returncode:
        pytest.skip("There is no node 20.10 or later: run 'apt-get install nodejs'")
    (tmp_path / "base04.mjs").write_bytes(answer.content)
    shown = (CLIENTS / "listen.mjs").read_text().replace("/static/base04.js", "./base04.mjs")
    given = json.dumps([host.url.replace("http", "ws") + "/ws", token(host)])
    (tmp_path / "page.mjs").write_text(
        f"const [socketUrl, theToken] = {given};\nconst fetchToken = () => theToken;\n"
        f"const show = (text) => {{ console.log(text); if (text.includes('Hello')) process.exit(); }};\n{shown}"
    )
    done = subprocess.run(
        [node, "--no-warnings", "--experimental-websocket", tmp_path / "page.mjs"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("here: admin\nadmin: Hello\n", "")


def test_scripts_are_those_that_run() -> None:
    for page, name in (("clients.md", "listen.mjs"), ("socketio.md", "socketio.mjs")):
        (block,) = blocks(DOCS / page, "js")
        assert block.text == (CLIENTS / name).read_text()


def test_settings_of_socketio_are_valid() -> None:
    written = yaml.safe_load((CLIENTS / "socketio.yaml").read_text())
    HostSettings.model_validate(written)
    SocketIOSettings.model_validate(written["managers"]["websocket"]["socketio"])
