"""Every log line of a host says which request, action and user it belongs to, and nobody forges one."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import websockets

from serve_kit import Server, run_base04, write
from websocket_kit import NativeClient

Serve = Callable[..., Server]

SETTINGS = """
    managers: {action_discovery: {folders: [actions]}}
    plugins: {paths: [plugins]}
"""
PACK = """
    pack: talk
    version: 1.0.0
    actions:
      plain: {handler: .handlers:plain, access: public}
      threaded: {handler: .handlers:threaded, access: public}
      outer: {handler: .handlers:outer, access: public}
      failing:
        handler: .handlers:failing
        access: public
        idempotent: true
        retry: {attempts: 2, delay: 10ms, when: [failed]}
      private: {handler: .handlers:plain}
"""
HANDLERS = """
    import asyncio
    import logging

    import structlog
    from base04_hookspecs.action_discovery import ActionContext

    library = logging.getLogger("library")


    async def plain(context: ActionContext) -> None:
        context.log.info("said by ctx.log")
        structlog.get_logger().info("said by structlog")
        library.warning("said by a library")
        await asyncio.create_task(later())


    async def later() -> None:
        library.warning("said by a task")


    def threaded(context: ActionContext) -> None:
        context.log.info("said by ctx.log")
        library.warning("said by a library in a thread")


    async def outer(context: ActionContext) -> None:
        library.warning("said outside")
        await context.run("talk.threaded")


    async def failing() -> None:
        raise LookupError("no such thing")
"""
PLUGIN = """
    import logging

    from base04_hookspecs import hookimpl
    from starlette.middleware import Middleware
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    library = logging.getLogger("library")


    class Talking:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            library.warning("said by middleware")
            if scope["type"] == "http" and scope["path"].startswith("/broken"):
                raise LookupError(dict(scope["headers"])[b"x-said"].decode("latin-1"))
            await self.app(scope, receive, send)


    async def ask(credentials):
        library.warning("said by an authenticator")
        return None


    def blocking_route(request):
        library.warning("said by a route: %s", request.headers.get("x-said"))
        return PlainTextResponse("done")


    async def begun(app):
        library.warning("said by nobody")


    @hookimpl
    def middleware():
        yield Middleware(Talking)


    @hookimpl
    def authenticate():
        yield ask


    @hookimpl
    def routes():
        yield Route("/talk", blocking_route)


    @hookimpl
    def startup():
        yield begun
"""
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
MARKS = ("request_id", "action", "user_id", "trace_id", "span_id")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "actions/talk.yaml", PACK)
    write(tmp_path / "actions/handlers.py", HANDLERS)
    write(tmp_path / "plugins/talking.py", PLUGIN)
    return tmp_path


def lines(server: Server, mark: str = "") -> list[dict[str, Any]]:
    """Return the log until now; lines of one request only where its id is given."""
    found = [json.loads(line) for line in server.stderr.text.splitlines()]
    return [line for line in found if not mark or line.get("request_id") == mark]


def said(server: Server, request_id: str) -> dict[str, tuple[Any, ...]]:
    """Return what was said in a request, with the action and the user of each line."""
    events = [line for line in lines(server, request_id) if line["event"].startswith("said")]
    return {line["event"]: (line.get("action"), line.get("user_id")) for line in events}


def test_lines_of_everything_that_runs_in_a_request_have_its_id(serve: Serve, folder: Path) -> None:
    server = serve(settings=SETTINGS)
    with server.client() as client:
        for number, action in enumerate(("plain", "threaded", "outer")):
            assert client.post(f"/actions/talk.{action}", headers={"x-request-id": f"r{number}"}).status_code == 200
        assert client.get("/talk", headers={"x-request-id": "r4", "x-said": "x"}).text == "done"
    early = {"said by middleware": (None, None), "said by an authenticator": (None, None)}
    assert said(server, "r0") == early | {
        f"said by {what}": ("talk.plain", None) for what in ("ctx.log", "structlog", "a library", "a task")
    }
    assert said(server, "r1") == early | {
        f"said by {what}": ("talk.threaded", None) for what in ("ctx.log", "a library in a thread")
    }
    assert said(server, "r2") == early | {
        "said outside": ("talk.outer", None),
        "said by ctx.log": ("talk.threaded", None),
        "said by a library in a thread": ("talk.threaded", None),
    }
    assert said(server, "r4") == early | {"said by a route: x": (None, None)}
    nobody = next(line for line in lines(server) if line["event"] == "said by nobody")
    assert not any(mark in nobody for mark in MARKS)


def test_lines_of_a_caller_name_the_user_and_failures_the_attempt(serve: Serve, folder: Path) -> None:
    server = serve(settings=SETTINGS)
    with server.admin() as client:
        assert client.post("/actions/talk.private", headers={"x-request-id": "r1"}).status_code == 200
        assert client.post("/actions/talk.failing", headers={"x-request-id": "r2"}).status_code == 500
    assert said(server, "r1")["said by a library"] == ("talk.private", "admin")
    failing = [line for line in lines(server, "r2") if not line["event"].startswith("said")]
    assert [(line["event"], line["action"], line["user_id"]) for line in failing] == [
        ("action is tried again", "talk.failing", "admin"),
        ("action failed", "talk.failing", "admin"),
    ]


def test_background_execution_goes_on_with_request_and_trace(serve: Serve, folder: Path) -> None:
    server = serve(settings=SETTINGS)
    headers = {"x-request-id": "r1", "traceparent": TRACEPARENT, "prefer": "respond-async"}
    with server.admin() as client:
        answer = client.post("/actions/talk.threaded", headers=headers)
        assert answer.status_code == 202
        assert server.stderr.wait_for("said by a library in a thread")
        shown = client.get(answer.headers["location"]).json()
    assert "trace" not in shown
    for line in lines(server, "r1"):
        assert (line["trace_id"], line["span_id"]) == (TRACE, "00f067aa0ba902b7"), line
    assert said(server, "r1")["said by a library in a thread"] == ("talk.threaded", "admin")


async def test_messages_of_a_socket_have_ids_of_their_own(serve: Serve, folder: Path) -> None:
    server = serve(settings=SETTINGS)
    with server.admin() as client:
        key = client.post("/api-keys", json={"user_id": "ada", "permissions": ["*"]}).json()["api_key"]
        token = client.post("/auth/token", headers={"x-api-key": key}).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}", "traceparent": TRACEPARENT}
    address = server.url.replace("http://", "ws://") + "/ws"
    async with websockets.connect(address, additional_headers=headers, proxy=None) as connection:
        client_ = await NativeClient(connection).greeted()
        for _ in range(2):
            await client_.call("talk.plain", {})
    found = [line for line in lines(server) if line["event"] == "said by a library"]
    assert len({line["request_id"] for line in found}) == 2
    assert {(line["action"], line["user_id"], line["trace_id"]) for line in found} == {("talk.plain", "ada", TRACE)}


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-00f067aa0ba902b7-01",
        f"00-{TRACE.upper()}-00f067aa0ba902b7-01",
        f"{TRACEPARENT}-more",
        f"{TRACEPARENT}\u00e9",
        f'00-{TRACE}-00f067aa0ba902b7-01", "event": "forged',
        "01-" * 20_000,
    ],
)
def test_traceparent_that_is_not_valid_is_left_out(serve: Serve, folder: Path, traceparent: str) -> None:
    server = serve(settings=SETTINGS)
    with socket.create_connection(server.address) as connection:
        head = f"GET /talk HTTP/1.1\r\nhost: h\r\nconnection: close\r\nx-request-id: r1\r\ntraceparent: {traceparent}"
        connection.sendall(f"{head}\r\n\r\n".encode("latin-1"))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    found = lines(server, "r1")
    assert not any("trace_id" in line for line in found)
    assert found or b" 400 " in answer or b" 431 " in answer


@pytest.mark.parametrize("form", ["json", "console"])
def test_what_callers_send_makes_no_line(serve: Serve, folder: Path, form: str) -> None:
    forged = "2026-01-01T00:00:00Z [error] forged"
    server = serve(settings=SETTINGS, BASE04_LOG__FORMAT=form)
    with server.client() as client:
        for said_ in (f"x\u0085{forged}", f"x\x1b[2J{forged}"):
            client.get("/talk", headers=[(b"x-said", said_.encode("latin-1"))])
            client.get("/broken/x%0A2026-01-01", headers=[(b"x-said", said_.encode("latin-1"))])
        client.get("/talk", headers={"x-request-id": "two words", "x-said": "x"})
    server.signal()
    server.wait()
    text = server.stderr.wait_for_end()
    assert "a request failed" in text
    assert "forged" in text
    assert "\x1b" not in text
    assert not any(line.startswith((forged, "2026-01-01")) for line in text.splitlines())
    assert "two words" not in text
    if form == "json":
        assert all(isinstance(json.loads(line), dict) for line in text.splitlines())


def test_command_line_writes_marks_too(folder: Path) -> None:
    write(folder / "base04.yaml", SETTINGS)
    done = run_base04("actions", "run", "talk.plain", cwd=folder)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stderr.splitlines() if "said by a library" in line]
    assert [(line["action"], line["user_id"]) for line in found] == [("talk.plain", "local")]
    assert found[0]["request_id"]
