"""How a host ends: requests finish, sockets are told, managers stop, whatever the signal finds it doing."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from serve_kit import PATIENCE_S, Server, install, write

Serve = Callable[..., Server]

SETTINGS = """
server: {drain_timeout: 60s}
managers:
  action_discovery: {folders: [actions]}
  first: {start_timeout: 60s}
"""

PACK = """
pack: wait
version: 1.0.0
actions:
  thread: {summary: Wait in a thread, handler: ".handlers:thread", access: public}
  task: {summary: Wait in the loop, handler: ".handlers:task", access: public}
  for_ever: {summary: Wait for ever, handler: ".handlers:for_ever", access: public}
  token: {summary: Make a token, handler: ".handlers:token", access: authenticated}
"""

HANDLERS = """
import asyncio
from pathlib import Path

from base04_hookspecs.jwt import JWTManager


def begun():
    print("begun", flush=True)


def thread():
    begun()
    return Path("release").read_text()


async def task():
    begun()
    return await asyncio.to_thread(Path("release").read_text)


async def for_ever():
    begun()
    try:
        await asyncio.Event().wait()
    finally:
        print("ended", flush=True)


async def token(jwt: JWTManager):
    return await jwt.create_access_token("ada")
"""

MANAGERS = """
import asyncio
import os
from typing import ClassVar

from base04_hookspecs import Manager, Provider, health_report, hookimpl
from base04_hookspecs.app import AppManager
from base04_hookspecs.database import DatabaseManager


class Recorded(Manager):
    async def start(self):
        print("started", self.role, flush=True)

    async def stop(self):
        print("stopped", self.role, flush=True)
        if os.environ.get("FAILING") == self.role:
            raise RuntimeError("it would not stop")

    async def health_check(self):
        return health_report()


class First(Recorded):
    role: ClassVar[str] = "first"


class Second(Recorded):
    role: ClassVar[str] = "second"

    def __init__(self, first: First):
        self.first = first


class Third(Recorded):
    role: ClassVar[str] = "third"

    def __init__(self, second: Second, database: DatabaseManager):
        self.second, self.database = second, database

    async def start(self):
        await super().start()
        if os.environ.get("HANGING") == "start":
            print("hanging", flush=True)
            await asyncio.Event().wait()

    async def stop(self):
        assert await self.database.check_connection()
        await super().stop()


@hookimpl
def extra_providers():
    for cls in (First, Second, Third):
        yield Provider("recorded", cls, role=cls.role)


@hookimpl
def startup():
    async def step(app: AppManager):
        if os.environ.get("HANGING") == "step":
            print("hanging", flush=True)
            await asyncio.Event().wait()

    return [step]


@hookimpl
def shutdown():
    async def step(app: AppManager):
        print("shutdown step", flush=True)

    return [step]
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    install(folder, "acme-recorded", plugins={"recorded": "acme_recorded"}, files={"acme_recorded.py": MANAGERS})
    return folder


@pytest.fixture
def host(tmp_path: Path, site: Path, serve: Serve) -> Callable[..., Server]:
    def start(settings: str = SETTINGS, **options: Any) -> Server:
        folder = tmp_path / "host"
        write(folder / "actions" / "wait.yaml", PACK)
        write(folder / "actions" / "handlers.py", HANDLERS)
        os.mkfifo(folder / "release")
        return serve(folder, settings=settings, site=site, **options)

    return start


class Call:
    """A request that is on its way in a thread of its own."""

    def __init__(self, server: Server, path: str) -> None:
        self._server, self._path = server, path
        self.answer: httpx.Response | None = None
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert server.stdout.wait_for("begun") is not None

    def _run(self) -> None:
        try:
            with self._server.client() as client:
                self.answer = client.post(self._path)
        except httpx.HTTPError as error:
            self.error = error

    def finish(self) -> None:
        """Wait for it to end, well or not."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


def refuses_connections(server: Server) -> bool:
    """Tell whether the host takes no more connections; it may take it a moment after its log says that it drains."""
    for _ in range(10_000):
        try:
            socket.create_connection(server.address, timeout=PATIENCE_S).close()
        except ConnectionRefusedError:
            return True
    return False


def frames_until_closed(client: ClientConnection) -> Iterator[str | bytes]:
    while True:
        try:
            yield client.recv(PATIENCE_S)
        except ConnectionClosed:
            return


def stopped_in_order(server: Server) -> bool:
    lines = server.stdout.text.splitlines()
    tail = [line for line in lines if line.startswith(("stopped", "shutdown"))]
    return tail == ["shutdown step", "stopped third", "stopped second", "stopped first"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("action", ["thread", "task"])
def test_request_finishes_after_the_signal(host: Callable[..., Server], action: str, number: int) -> None:
    server = host()
    call = Call(server, f"/actions/wait.{action}")
    server.signal(number)
    assert server.stderr.wait_for("the host drains") is not None
    assert refuses_connections(server)
    assert "stopped" not in server.stdout.text
    (server.folder / "release").write_text("released")
    call.finish()
    assert call.answer is not None, call.error
    assert (call.answer.status_code, call.answer.json()) == (200, "released")
    assert server.wait() == 0
    assert stopped_in_order(server)
    assert "Traceback" not in server.stderr.text
    assert not server.socket_path.exists()


def test_readiness_ends_with_the_signal_on_connections_that_stay(host: Callable[..., Server]) -> None:
    """Sockets drain while HTTP connections that are open already are still answered."""
    server = host()
    with server.admin() as admin:
        token = admin.post("/actions/wait.token").json()
        with connect(
            server.url.replace("http", "ws") + "/ws", additional_headers={"authorization": f"Bearer {token}"}
        ) as client:
            assert json.loads(client.recv(PATIENCE_S))["type"] == "auth_ok"
            client.send(json.dumps({"type": "call", "id": 1, "action": "wait.thread", "args": {}}))
            assert server.stdout.wait_for("begun") is not None
            assert admin.get("/health/ready").status_code == 200
            server.signal()
            assert server.stderr.wait_for("the host drains") is not None
            answer = admin.get("/health/ready")
            assert (answer.status_code, answer.json()) == (503, {"status": "draining"})
            (server.folder / "release").write_text("released")
            frames = [json.loads(frame) for frame in frames_until_closed(client)]
    assert any(frame.get("result") == "released" for frame in frames), frames
    assert client.close_code == 1012
    assert server.wait() == 0
    assert stopped_in_order(server)


def test_second_signal_waits_for_nobody(host: Callable[..., Server]) -> None:
    server = host(settings=SETTINGS.replace("60s", "1h"))
    call = Call(server, "/actions/wait.for_ever")
    server.signal()
    assert server.stderr.wait_for("the host drains") is not None
    server.signal()
    assert server.wait() == 0
    call.finish()
    assert call.answer is not None, call.error
    assert (call.answer.status_code, call.answer.headers["retry-after"]) == (503, "1")
    assert call.answer.json()["request_id"] == call.answer.headers["x-request-id"]
    assert server.stdout.text.count("ended") == 1
    assert stopped_in_order(server)
    assert "Traceback" not in server.stderr.text


def test_drain_timeout_bounds_the_wait(host: Callable[..., Server]) -> None:
    server = host(settings=SETTINGS.replace("drain_timeout: 60s", "drain_timeout: 100ms"))
    call = Call(server, "/actions/wait.for_ever")
    server.signal()
    assert server.wait() == 0
    call.finish()
    assert call.answer is not None, call.error
    assert (call.answer.status_code, call.answer.headers["retry-after"]) == (503, "1")
    assert call.answer.json()["request_id"] == call.answer.headers["x-request-id"]
    assert server.stdout.text.count("ended") == 1
    assert stopped_in_order(server)
    assert "Traceback" not in server.stderr.text


def test_thread_that_never_ends_does_not_keep_the_process(host: Callable[..., Server]) -> None:
    server = host(settings=SETTINGS.replace("drain_timeout: 60s", "drain_timeout: 100ms"))
    call = Call(server, "/actions/wait.thread")
    server.signal()
    assert server.wait() == 0
    call.finish()
    assert stopped_in_order(server)


@pytest.mark.parametrize("where", ["start", "step"])
def test_signal_during_start_stops_what_was_started(host: Callable[..., Server], where: str) -> None:
    server = host(HANGING=where)
    assert server.stdout.wait_for("hanging") is not None
    server.signal()
    assert server.wait() == 0
    lines = [line for line in server.stdout.text.splitlines() if line.startswith("stopped")]
    assert lines[-2:] == ["stopped second", "stopped first"]
    assert "Base04 serves" not in server.stdout.text
    assert "Traceback" not in server.stderr.text


def test_manager_that_does_not_stop_keeps_no_other_from_it(host: Callable[..., Server]) -> None:
    server = host(FAILING="second")
    assert server.url
    server.signal()
    assert server.wait() == 1
    assert stopped_in_order(server)
    assert "second" in server.stderr.text
    assert "it would not stop" in server.stderr.text
    assert "Traceback" not in server.stderr.text


def test_idle_connections_do_not_delay_the_end(host: Callable[..., Server]) -> None:
    server = host(settings=SETTINGS.replace("60s", "1h"))
    with server.client() as client, socket.create_connection(server.address) as silent:
        assert client.get("/health/live").status_code == 200
        silent.sendall(b"POST /actions/wait.task HTTP/1.1\r\nhost: x\r\n")
        server.signal()
        assert server.wait() == 0
        silent.settimeout(PATIENCE_S)
        assert silent.recv(100) == b""
    assert stopped_in_order(server)


def test_nothing_is_left_open(host: Callable[..., Server]) -> None:
    server = host(PYTHONDEVMODE="1")
    with server.admin() as client:
        client.get("/health")
    listening = [path for path in server.socket_path.parent.iterdir() if stat.S_ISSOCK(path.stat().st_mode)]
    assert listening == [server.socket_path]
    assert server.stop() == 0
    assert [path.name for path in server.socket_path.parent.iterdir() if stat.S_ISSOCK(path.stat().st_mode)] == []
