"""What a plugin may ask the host: who is calling, for a manager, and what a command asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from base04.cli.session import Session
from base04_hookspecs.command_line import CommandSession
from serve_kit import Server, run_base04, write

Serve = Callable[..., Server]

DESK = '''
import typer
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from base04_hookspecs import hookimpl, require_permission
from base04_hookspecs.errors import AuthenticationError


class Named:
    """Says who is calling in a header; what cannot be told is handed on."""

    def __init__(self, app, host):
        self.app, self.host = app, host

    async def __call__(self, scope, receive, send):
        try:
            caller = await self.host.identify(scope)
        except AuthenticationError:
            caller = None

        async def named(message):
            if message["type"] == "http.response.start" and caller is not None:
                field = (b"x-caller", f"{caller.user_id} {caller.method}".encode())
                message["headers"] = [*message["headers"], field]
            await send(message)

        await self.app(scope, receive, named)


@hookimpl
def middleware(app):
    yield Middleware(Named, app)


@hookimpl
def routes(app):
    async def visits(request):
        who = require_permission("desk.read")
        return JSONResponse({"who": who.user_id, "visits": await app.get_manager("redis").incr("b04:desk")})

    async def empty(request):
        require_permission("desk.write")
        return JSONResponse({"emptied": await app.get_manager("redis").delete("b04:desk")})

    yield Route("/desk", visits, methods=["POST"])
    yield Route("/desk", empty, methods=["DELETE"])
    yield Route("/desk", visits, methods=["GET", "POST"])


desk = typer.Typer(name="desk")


@desk.command()
def visit(ctx: typer.Context) -> None:
    """Count a visit."""
    typer.echo(ctx.obj.ask("POST", "/desk")["who"])


@desk.command()
def nowhere(ctx: typer.Context) -> None:
    """Ask for what is not there."""
    ctx.obj.ask("GET", "/nowhere")


@hookimpl
def cli_commands():
    yield desk
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "plugins" / "desk.py", DESK)
    write(tmp_path / "base04.yaml", "plugins: {paths: [plugins]}\n")
    return tmp_path


@pytest.fixture
def server(folder: Path, serve: Serve) -> Server:
    return serve(folder)


def test_middleware_learns_who_is_calling(server: Server) -> None:
    key = server.admin_key
    with server.client() as client:
        assert client.get("/actions").headers["x-caller"] == "None anonymous"
        assert client.get("/actions", headers={"x-api-key": key}).headers["x-caller"] == "admin api_key"
        token = client.post("/auth/token", headers={"x-api-key": key}).json()["access_token"]
        for _ in range(2):  # when it is new, and when it is known
            answer = client.get("/actions", headers={"authorization": f"Bearer {token}"})
            assert answer.headers["x-caller"] == "admin token"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-api-key": "b04_unknown"}, 401),
        ({"authorization": "Bearer nonsense"}, 401),
        ({"authorization": "Basic YTpi"}, 401),
        ({"authorization": "Bearer nonsense", "x-api-key": "b04_unknown"}, 400),
    ],
)
def test_who_cannot_be_told_is_refused_by_the_host(server: Server, headers: dict[str, str], status: int) -> None:
    with server.client(**headers) as client:
        answer = client.get("/actions")
        assert (answer.status_code, "x-caller" in answer.headers) == (status, False)


def test_route_finds_managers_and_asks_for_a_permission(server: Server) -> None:
    with server.client() as stranger, server.admin() as admin:
        assert stranger.post("/desk").status_code == 401
        key = admin.post("/api-keys", json={"user_id": "ada", "permissions": ["notes.read"]}).json()["api_key"]
        refused = stranger.post("/desk", headers={"x-api-key": key})
        assert (refused.status_code, refused.json()["missing"]) == (403, ["desk.read"])
        assert admin.post("/desk").json() == {"who": "admin", "visits": 1}


def test_routes_of_one_path_answer_methods_of_their_own(server: Server) -> None:
    with server.admin() as admin:
        assert admin.post("/desk").json()["visits"] == 1
        assert admin.delete("/desk").json() == {"emptied": True}
        refused = admin.get("/desk")  # its route has a method that is taken
        assert (refused.status_code, refused.headers["allow"]) == (405, "DELETE, POST")


def test_command_asks_the_host_that_runs(server: Server) -> None:
    assert server.url
    assert run_base04("desk", "visit", cwd=server.folder).stdout == "local\n"
    with server.admin() as admin:
        assert admin.post("/desk").json()["visits"] == 2
    refused = run_base04("desk", "nowhere", cwd=server.folder)
    assert (refused.returncode, refused.stderr) == (1, "base04: There is nothing at '/nowhere'.\n")


def test_command_asks_a_host_of_its_own_where_none_runs(folder: Path) -> None:
    done = run_base04("desk", "visit", cwd=folder)
    assert (done.returncode, done.stdout) == (0, "local\n"), done.stderr


def test_session_is_what_commands_are_promised() -> None:
    session: CommandSession = Session(None, None)
    assert callable(session.ask)


SHOP = """
from starlette.responses import JSONResponse
from starlette.routing import Route

from base04_hookspecs import Manager, Provider, health_report, hookimpl


class Shop(Manager):
    role = "shop"
    steps = []

    async def health_check(self):
        return health_report()


async def open_it(app):
    steps = app.get_manager("shop").steps
    steps.append("opened")
    if len(steps) == 2:
        print("opened for the 2nd time", flush=True)


async def close_it(app):
    app.get_manager("shop")
    print("the shop is closed", flush=True)


@hookimpl
def extra_providers():
    yield Provider("corner", Shop, role="shop", default=True)


@hookimpl
def startup():
    yield open_it


@hookimpl
def shutdown():
    yield close_it


@hookimpl
def routes(app):
    async def show(request):
        return JSONResponse(app.get_manager("shop").steps)

    yield Route("/shop", show)
"""


def test_steps_of_a_plugin_that_is_switched_find_its_own_manager(folder: Path, serve: Serve) -> None:
    write(folder / "plugins" / "shop.py", SHOP)
    server = serve(folder)
    with server.admin() as admin:
        assert admin.get("/shop").json() == ["opened"]
        write(folder / "base04.yaml", "plugins: {paths: [plugins], deny: [shop]}\n")
        assert admin.post("/reload").json()["plugins"] == {"shop": "denied"}
        assert server.stdout.wait_for("the shop is closed") is not None
        assert admin.get("/shop").status_code == 404
        write(folder / "base04.yaml", "plugins: {paths: [plugins]}\n")
        assert admin.post("/reload").json()["plugins"] == {"shop": "enabled"}
        assert server.stdout.wait_for("opened for the 2nd time") is not None
        assert admin.get("/shop").json() == ["opened", "opened"]
    assert server.stop() == 0
    assert "a lifecycle step of a plugin failed" not in server.stderr.text
