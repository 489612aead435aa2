"""The host inside other programs: under a plain uvicorn, below a prefix, and joined to an existing application."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from base04 import AppManager, create_app
from base04.errors import FolderInUse
from serve_kit import PATIENCE_S, environment, write

PACK = """
pack: try
version: 1.0.0
actions:
  add: {summary: Add, handler: ".handlers:add", access: public, parameters: {a: {type: integer}}, required: [a]}
"""
HANDLERS = "async def add(a):\n    return a + 1\n"


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    write(tmp_path / "actions" / "try.yaml", PACK)
    write(tmp_path / "actions" / "handlers.py", HANDLERS)
    return {
        "data_dir": str(tmp_path / "data"),
        "managers": {"action_discovery": {"folders": [str(tmp_path / "actions")]}},
    }


class PlainServer(uvicorn.Server):
    """uvicorn as anybody would use it, but for what a test cannot have: its signal handlers and its exit."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit as error:
            raise RuntimeError("uvicorn did not start") from error


@contextlib.asynccontextmanager
async def served(app: ASGIApp, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an application on a free port."""
    config = uvicorn.Config(app, log_config=None, ws="websockets-sansio", **options)
    config.load()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        server = PlainServer(config)
        task = asyncio.create_task(server.serve([listener]))
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client:
                await client.get("/")  # waits in the listener's backlog until uvicorn has started
                yield client
        finally:
            server.should_exit = True
            await task


async def test_created_application_lives_as_long_as_its_server(settings: dict[str, Any], tmp_path: Path) -> None:
    app = create_app(settings)
    assert isinstance(app, Starlette)
    assert not (tmp_path / "data").exists()
    async with served(app) as client:
        answer = await client.post("/actions/try.add", json={"a": 1})
        assert (answer.status_code, answer.json()) == (200, 2)
        assert (await client.get("/health")).json() == {"status": "healthy"}
        assert (await client.get("/nothing")).headers["content-type"] == "application/problem+json"
        with pytest.raises(FolderInUse):
            await AppManager(settings).start()
    async with AppManager(settings) as again:
        assert again.is_initialized()


async def test_created_application_takes_routes_and_middleware(settings: dict[str, Any]) -> None:
    async def own(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"own {request.app is app}")

    class Signed:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def signed(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message["headers"], (b"x-signed", b"yes")]
                await send(message)

            await self.app(scope, receive, signed)

    app = create_app(settings)
    app.add_middleware(Signed)
    app.router.routes.append(Route("/health", own))
    async with served(app) as client:
        answers = {path: await client.get(path) for path in ("/health", "/health/live", "/actions/try.add", "/nothing")}
        wrong = await client.post("/health")
    assert answers["/health"].text == "own True"
    assert [answer.status_code for answer in answers.values()] == [200, 200, 200, 404]
    assert all(answer.headers["x-signed"] == "yes" for answer in answers.values())
    assert wrong.status_code == 405


async def test_application_that_has_not_started_says_so(settings: dict[str, Any]) -> None:
    transport = httpx.ASGITransport(create_app(settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
        answer = await client.get("/health/live", headers={"x-request-id": "early"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "early"


async def test_application_below_a_root_path(settings: dict[str, Any]) -> None:
    async with served(create_app(settings), root_path="/base") as client:
        answer = await client.post("/actions/try.add", json={"a": 1})
        assert (answer.status_code, answer.json()) == (200, 2)
        assert (await client.get("/health/live")).status_code == 200


async def test_application_mounted_in_another(settings: dict[str, Any]) -> None:
    host = create_app(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with host.router.lifespan_context(host):
            yield

    outer = Starlette(routes=[Mount("/base", app=host)], lifespan=lifespan)
    async with served(outer) as client:
        answer = await client.post("/base/actions/try.add", json={"a": 1})
        assert (answer.status_code, answer.json()) == (200, 2)
        wrong = await client.put("/base/actions/try.add")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD, POST")
        assert (await client.get("/base/health/live")).status_code == 200
        assert (await client.get("/base/managers")).status_code == 401


async def test_host_joins_an_existing_application(settings: dict[str, Any]) -> None:
    steps: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        steps.append(f"begins with host {manager.is_initialized()}")
        yield {"kept": "state"}
        steps.append(f"ends with host {manager.is_initialized()}")

    async def own(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"own {request.state.kept} {await manager.check_database_connection()}")

    app = Starlette(routes=[Route("/", own), Route("/health", own)], lifespan=lifespan)
    manager = AppManager(settings)
    manager.initialize(app)
    assert not manager.is_initialized()
    async with served(app) as client:
        assert manager.is_initialized()
        assert (await client.get("/")).text == "own state True"
        assert (await client.get("/health")).text == "own state True"
        assert (await client.get("/health/live")).json() == {"status": "alive"}
        assert (await client.post("/actions/try.add", json={"a": 1})).json() == 2
        assert (await client.get("/nothing")).json()["type"] == "urn:base04:problem:not-found"
        url = str(client.base_url).replace("http", "ws")
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{url}/nothing")
        assert refused.value.response.status_code == 404
    assert steps == ["begins with host True", "ends with host True"]
    assert not manager.is_initialized()


def test_run_serves_a_joined_application_with_its_lifespan(tmp_path: Path, settings: dict[str, Any]) -> None:
    script = f"""
        import contextlib, os, signal, threading, urllib.request
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse
        from starlette.routing import Route
        from base04 import AppManager

        @contextlib.asynccontextmanager
        async def lifespan(app):
            print("begins", manager.is_initialized())
            asked.start()
            yield {{"kept": "state"}}
            print("ends", manager.is_initialized())

        async def own(request):
            return PlainTextResponse("own " + request.state.kept)

        def ask():
            import json, time
            lock = os.path.join({settings["data_dir"]!r}, "host.lock")
            while not (url := json.load(open(lock))["url"]):
                time.sleep(0.01)
            print(urllib.request.urlopen(url).read().decode())
            print(urllib.request.urlopen(url + "/health/live").read().decode())
            os.kill(os.getpid(), signal.SIGTERM)

        asked = threading.Thread(target=ask)
        app = Starlette(routes=[Route("/", own)], lifespan=lifespan)
        manager = AppManager({settings!r})
        manager.initialize(app)
        manager.run(app, port=0)
        print("returned", manager.is_initialized())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if not line.startswith("2") and "[" not in line]
    assert told == ["begins True", "own state", '{"status":"alive"}', "ends True", "returned False"]


def test_run_tells_of_an_application_that_does_not_start(tmp_path: Path, settings: dict[str, Any]) -> None:
    script = f"""
        import contextlib
        from starlette.applications import Starlette
        from base04 import AppManager
        from base04.errors import HostError

        @contextlib.asynccontextmanager
        async def lifespan(app):
            raise RuntimeError("not today")
            yield

        manager = AppManager({settings!r})
        app = Starlette(lifespan=lifespan)
        try:
            manager.run(app, port=0)
        except HostError as error:
            print("HostError:", error, manager.is_initialized())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "HostError: The application did not start" in done.stdout
    assert done.stdout.rstrip().endswith("False")
    assert "not today" in done.stderr
