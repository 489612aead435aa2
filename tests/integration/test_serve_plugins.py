"""What plugins add to a running host, good ones and bad ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from serve_kit import PATIENCE_S, Server, install, run_base04, write

ACME = '''
import json

import typer
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Host, Mount, Route, WebSocketRoute

from base04_hookspecs import Principal, current_request, hookimpl
from base04_hookspecs.app import AppManager
from base04_hookspecs.errors import AuthenticationError, InvalidInput, PermissionDenied, RateLimited


async def who(request):
    found = current_request()
    return JSONResponse({"user": found.principal.user_id, "method": found.principal.method, "app": str(request.app)})


async def fail(request):
    raise {
        "refuse": lambda: PermissionDenied("This is not for you.", ["acme.more"]),
        "break": lambda: RuntimeError("the secret of the route"),
    }[request.path_params["how"]]()


async def half(request):
    from starlette.responses import StreamingResponse

    async def pieces():
        yield b"half"
        raise PermissionDenied("too late")

    return StreamingResponse(pieces())


async def talk(websocket):
    await websocket.accept()
    await websocket.send_json({"user": current_request().principal.user_id, "id": current_request().request_id})
    await websocket.close()


async def refuse(websocket):
    raise PermissionDenied("Not here.", ["acme.talk"])


@hookimpl
def routes():
    return [
        Route("/acme/who", who, methods=["GET", "POST"]),
        Route("/acme/fail/{how}", fail),
        Route("/acme/half", half),
        Route("/acme/who", who),
        Route("/actions/acme", who),
        Route("/managers", who),
        Mount("/health", routes=[Route("/acme", who)]),
        WebSocketRoute("/ws", talk),
        WebSocketRoute("/acme/talk", talk),
        WebSocketRoute("/acme/refuse", refuse),
        Host("acme.example", app=PlainTextResponse("the host of acme")),
        "not a route",
    ]


class Signed:
    """Writes a header, and does what a header tells it."""

    def __init__(self, app, name):
        self.app, self.name = app, name

    async def __call__(self, scope, receive, send):
        told = dict(scope["headers"]).get(b"x-acme", b"") if scope["type"] == "http" else b""
        if told == b"break":
            raise RuntimeError("the secret of the middleware")
        if told == b"limit":
            raise RateLimited("Slowly.", retry_after=7, exceeded=["acme"])

        async def signed(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-signed", self.name.encode())]
            await send(message)

        await self.app(scope, receive, signed)


class Impossible:
    def __init__(self, app):
        raise RuntimeError("this middleware cannot be made")


@hookimpl
def middleware():
    return [Middleware(Signed, "outer"), Middleware(Impossible), Middleware(Signed, "inner")]


@hookimpl
def cli_commands():
    group = typer.Typer(name="acme", help="What acme adds.")

    @group.command()
    def hello(ctx: typer.Context, name: str = "you"):
        """Say hello."""
        typer.echo(f"hello {name}; data in {ctx.obj.settings.data_dir}")

    taken = typer.Typer(name="serve")
    taken.command()(hello)
    return [group, taken, "no group"]


@hookimpl
def authenticate():
    async def by_acme(credentials):
        shown = credentials.headers.get("x-acme-user")
        if shown == "nobody":
            raise AuthenticationError("acme knows nobody")
        if shown == "crash":
            raise RuntimeError("acme lost its list")
        return Principal(shown, ("acme.use",), "plugin") if shown else None

    return [by_acme]


@hookimpl
def before_action():
    async def check(call):
        if call.args.get("word") == "forbidden":
            raise InvalidInput("acme forbids that word")
        if call.args.get("word") == "replaced":
            call.args = {"word": "by acme"}
        call.values["seen"] = True

    return [check]


@hookimpl
def after_action():
    async def note(call, outcome):
        print("after", call.action["name"], outcome.status, call.values, flush=True)
        raise RuntimeError("this is only logged")

    return [note]


@hookimpl
def startup():
    async def step(app: AppManager):
        print("startup", app.is_initialized(), flush=True)

    async def failing(app: AppManager):
        raise RuntimeError("a step that fails")

    return [failing, step]


@hookimpl
def shutdown():
    async def first(app: AppManager):
        print("shutdown first", await app.check_database_connection(), flush=True)

    async def second(app: AppManager):
        print("shutdown second", flush=True)
        raise RuntimeError("a step that fails")

    return [first, second]


@hookimpl
def audit_event():
    async def listen(event):
        assert event["at"] > 0
        print("audit", json.dumps(event), flush=True)

    async def failing(event):
        raise RuntimeError("this listener fails")

    return [failing, listen]
'''

BROKEN = 'raise ImportError("acme is not ready")\n'
LEAVING = "import sys\nsys.exit(3)\n"
HOOK_RAISES = """
from base04_hookspecs import hookimpl

@hookimpl
def routes():
    raise RuntimeError("no routes today")
"""

PACK = """
pack: acme
version: 1.2.0
actions:
  say:
    summary: Say a word
    handler: acme_plugin.handlers:say
    access: public
    parameters: {word: {type: string}}
    required: [word]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    files = {
        "acme_plugin/__init__.py": ACME,
        "acme_plugin/handlers.py": "async def say(word):\n    return word\n",
        "acme_plugin/pack.yaml": PACK,
    }
    install(
        folder, "acme", version="1.2", plugins={"acme": "acme_plugin"}, actions={"acme": "acme_plugin"}, files=files
    )
    install(folder, "acme-broken", plugins={"broken": "acme_broken"}, files={"acme_broken.py": BROKEN})
    install(folder, "acme-leaving", plugins={"leaving": "acme_leaving"}, files={"acme_leaving.py": LEAVING})
    install(folder, "acme-raises", plugins={"raises": "acme_raises"}, files={"acme_raises.py": HOOK_RAISES})
    install(folder, "acme-later", plugins={"later": "acme_plugin"}, requires=["base04>=99"])
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, site: Path) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("plugins"), site=site) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as anonymous:
        yield anonymous


def test_host_serves_without_plugins_that_fail_and_says_so(client: httpx.Client, server: Server) -> None:
    assert client.get("/health/live").status_code == 200
    line = server.stdout.wait_for("  failed ")
    assert line is not None
    assert all(name in line for name in ("broken", "leaving", "later"))
    logged = server.stderr.wait_for("acme is not ready")
    assert logged is not None
    assert "Traceback" in json.loads(logged)["traceback"]


def test_plugins_command_shows_the_traceback(tmp_path: Path, site: Path) -> None:
    shown = run_base04("plugins", cwd=tmp_path, site=site)
    assert shown.returncode == 0
    assert "Traceback (most recent call last)" in shown.stdout
    assert "ImportError: acme is not ready" in shown.stdout
    assert "base04>=99" in shown.stdout
    listed = run_base04("plugins", "--json", cwd=tmp_path, site=site)
    found = {item["name"]: item for item in json.loads(listed.stdout)["plugins"]}
    assert found["broken"]["status"] == "failed"
    assert "acme_broken.py" in found["broken"]["error"]
    assert found["leaving"]["status"] == "failed"
    assert found["later"]["status"] == "failed"
    assert found["acme"]["status"] == "enabled"
    assert found["acme"]["contributes"]["packs"] == ["acme"]
    assert "routes" in found["acme"]["contributes"]["hooks"]


def test_module_tells_all_that_the_plugin_has_added(server: Server, site: Path) -> None:
    with server.admin() as admin:
        added = admin.get("/modules/acme").json()["contributes"]
        limiter = admin.get("/modules/builtin-rate-limiter").json()["contributes"]
    assert "GET,POST /acme/who" in added["routes"]
    assert "GET /acme/who" not in added["routes"], "its path is taken"
    assert added["middleware"].count("Signed") == 2
    assert added["actions"], "those of its pack"
    assert all(name.startswith("acme.") for name in added["actions"])
    assert "managers.rate_limiter.gcra.limits" in limiter["settings"]
    shown = run_base04("modules", "show", "acme", cwd=server.folder, site=site)
    assert "  actions: acme." in shown.stdout, shown.stderr
    assert "  commands: acme" in shown.stdout


def test_safe_mode_and_settings_leave_plugins_out(tmp_path: Path, site: Path) -> None:
    safe = json.loads(run_base04("--safe-mode", "plugins", "--json", cwd=tmp_path, site=site).stdout)["plugins"]
    assert {item["name"] for item in safe if item["status"] == "enabled"} == {
        item["name"] for item in safe if item["source"] == "builtin"
    }
    write(tmp_path / "base04.yaml", "plugins: {deny: ['acme*']}\n")
    denied = run_base04("plugins", "--json", cwd=tmp_path, site=site)
    found = {item["name"]: item for item in json.loads(denied.stdout)["plugins"]}
    assert found["broken"]["status"] == "denied"
    assert denied.stderr == ""


def test_hook_that_raises_contributes_nothing(server: Server) -> None:
    assert server.url
    line = server.stderr.wait_for("no routes today")
    assert line is not None
    assert json.loads(line)["plugin"] == "raises"


# Routes


def test_route_of_a_plugin_is_served_with_the_caller_known(client: httpx.Client, server: Server) -> None:
    answer = client.get("/acme/who")
    assert (answer.status_code, answer.json()["method"]) == (200, "anonymous")
    with server.admin() as admin:
        assert admin.get("/acme/who").json()["user"] == "admin"
    assert client.get("/acme/who", headers={"x-api-key": "nonsense"}).status_code == 401
    wrong = client.put("/acme/who")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD, POST")


def test_route_that_refuses_or_breaks_is_a_problem(client: httpx.Client, server: Server) -> None:
    refused = client.get("/acme/fail/refuse")
    assert (refused.status_code, refused.json()["missing"]) == (403, ["acme.more"])
    broken = client.get("/acme/fail/break", headers={"x-request-id": "route-1"})
    assert (broken.status_code, broken.json()["request_id"]) == (500, "route-1")
    assert broken.headers["content-type"] == "application/problem+json"
    assert "secret" not in broken.text
    line = server.stderr.wait_for("the secret of the route")
    assert line is not None
    assert (json.loads(line)["request_id"], json.loads(line)["plugin"]) == ("route-1", "acme")


def test_answer_that_breaks_in_the_middle_is_cut_off(client: httpx.Client) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/acme/half")
    assert client.get("/health/live").status_code == 200


@pytest.mark.parametrize(
    ("path", "owner"),
    [("/actions/acme", "Base04"), ("/managers", "Base04"), ("/ws", "Base04"), ("/acme/who", "plugin acme")],
)
def test_route_whose_path_is_taken_is_refused_and_named(server: Server, path: str, owner: str) -> None:
    assert server.url
    refusals = [json.loads(line) for line in server.stderr.text.splitlines() if "its path is taken" in line]
    assert {"acme"} == {item["plugin"] for item in refusals}
    assert (path, owner) in {(item["path"], item["owner"]) for item in refusals}


def test_what_is_no_route_is_refused(server: Server) -> None:
    assert server.url
    line = server.stderr.wait_for("it is not a Starlette route")
    assert line is not None
    assert "not a route" in line


def test_own_routes_stay_what_they_are(client: httpx.Client) -> None:
    assert client.get("/managers").status_code == 401
    assert client.get("/actions/acme").status_code == 404
    assert client.get("/health").json() == {"status": "degraded"}  # because of the plugins that failed
    assert client.get("/health/acme").status_code == 404
    assert client.get("/elsewhere", headers={"host": "acme.example"}).text == "the host of acme"


def test_websocket_of_a_plugin_knows_the_caller(server: Server) -> None:
    url = server.url.replace("http", "ws")
    headers = {"x-api-key": server.admin_key, "x-request-id": "talk-1"}
    with connect(f"{url}/acme/talk", additional_headers=headers) as websocket:
        assert json.loads(websocket.recv(PATIENCE_S)) == {"user": "admin", "id": "talk-1"}


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/acme/refuse", {}, 403),
        ("/acme/talk", {"x-api-key": "nonsense"}, 401),
        ("/nothing", {}, 404),
        ("/acme/who", {}, 404),
    ],
)
def test_websocket_that_is_refused_gets_a_problem(
    server: Server, path: str, headers: dict[str, str], status: int
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(server.url.replace("http", "ws") + path, additional_headers=headers)
    response = refused.value.response
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.body is not None
    assert json.loads(response.body)["request_id"] == response.headers["x-request-id"]


# Middleware


def test_middleware_is_around_everything_the_first_outermost(client: httpx.Client) -> None:
    for path in ("/health/live", "/acme/who", "/nothing", "/managers"):
        assert client.get(path).headers.get_list("x-signed") == ["inner", "outer"]


def test_middleware_that_cannot_be_made_is_left_out(server: Server) -> None:
    assert server.url
    assert server.stderr.wait_for("this middleware cannot be made") is not None


def test_middleware_that_raises_is_a_problem(client: httpx.Client, server: Server) -> None:
    answer = client.get("/acme/who", headers={"x-acme": "break", "x-request-id": "middle-1"})
    assert (answer.status_code, answer.json()["request_id"]) == (500, "middle-1")
    assert answer.headers["x-request-id"] == "middle-1"
    assert "secret" not in answer.text
    line = server.stderr.wait_for("the secret of the middleware")
    assert line is not None
    assert (json.loads(line)["request_id"], json.loads(line)["plugin"]) == ("middle-1", "acme")
    with server.admin() as admin:
        parts = [fault["part"] for fault in admin.get("/modules/acme").json()["faults"]]
    assert any(part.startswith("middleware ") for part in parts)


def test_middleware_may_refuse_with_an_error_of_the_contracts(client: httpx.Client) -> None:
    answer = client.get("/acme/who", headers={"x-acme": "limit"})
    assert (answer.status_code, answer.headers["retry-after"], answer.json()["exceeded"]) == (429, "7", ["acme"])


# Who is calling


def test_plugin_says_who_is_calling(client: httpx.Client) -> None:
    answer = client.get("/acme/who", headers={"x-acme-user": "ada"})
    assert (answer.json()["user"], answer.json()["method"]) == ("ada", "plugin")
    assert client.get("/acme/who", headers={"x-acme-user": "nobody"}).status_code == 401
    assert client.get("/acme/who", headers={"x-acme-user": "crash"}).status_code == 500
    assert client.get("/acme/who", headers={"authorization": "Basic YTph"}).status_code == 401
    both = {"x-acme-user": "ada", "authorization": "Basic YTph"}
    assert client.get("/acme/who", headers=both).json()["user"] == "ada"


# Actions, steps, commands


def test_actions_pass_by_the_plugins_callables(client: httpx.Client, server: Server) -> None:
    assert client.post("/actions/acme.say", json={"word": "hello"}).json() == "hello"
    assert server.stdout.wait_for("after acme.say succeeded {'seen': True}") is not None
    assert client.post("/actions/acme.say", json={"word": "replaced"}).json() == "by acme"
    refused = client.post("/actions/acme.say", json={"word": "forbidden"})
    assert (refused.status_code, refused.json()["detail"]) == (422, "acme forbids that word")


def test_audit_listeners_hear_of_keys_and_of_callers_who_were_denied(tmp_path: Path, site: Path) -> None:
    with Server(tmp_path, site=site) as server:
        _listen_to_keys_and_denials(server)


def _listen_to_keys_and_denials(server: Server) -> None:
    with server.client(**{"x-request-id": "audit-1"}) as client:
        assert client.get("/managers").status_code == 401
        assert client.get("/acme/fail/refuse", headers={"x-acme-user": "ada"}).status_code == 403
    with server.client(server.admin_key, **{"x-request-id": "audit-2"}) as admin:
        key_id = admin.post("/api-keys", json={"user_id": "bob", "permissions": ["host.read"]}).json()["key_id"]
        assert admin.delete(f"/api-keys/{key_id}").status_code == 204
    for event in ("acme.more", "api_key.revoked"):
        assert server.stdout.wait_for(event) is not None
    told = [json.loads(line[6:]) for line in server.stdout.text.splitlines() if line.startswith("audit ")]
    told = [event for event in told if str(event["request_id"]).startswith("audit-")]
    told.sort(key=lambda event: float(event["at"]))
    assert [(event["event"], event["outcome"], event["user_id"]) for event in told] == [
        ("auth.denied", "denied", None),
        ("auth.denied", "denied", "ada"),
        ("api_key.created", "success", "admin"),
        ("api_key.revoked", "success", "admin"),
    ]
    assert told[1]["details"]["missing"] == ["acme.more"]
    assert told[2]["details"] == {"key_id": key_id, "for_user": "bob", "permissions": ["host.read"]}
    assert all(event["client_ip"] == "127.0.0.1" for event in told)
    assert "b04_" not in json.dumps(told)


def test_command_of_a_plugin_is_a_group_and_gets_the_options(tmp_path: Path, site: Path) -> None:
    data = str(tmp_path / "elsewhere")
    said = run_base04("--data-dir", data, "acme", "hello", "--name", "ada", cwd=tmp_path, site=site)
    assert said.returncode == 0, said.stderr
    assert said.stdout == f"hello ada; data in {data}\n"
    assert "their name is taken" in said.stderr
    assert said.stderr.count("a plugin's commands are left out") == 2
    shown = run_base04("--help", cwd=tmp_path, site=site).stdout
    assert "What acme adds." in shown
    assert shown.count("│ serve ") == 1
    left_out = run_base04("--safe-mode", "acme", "hello", cwd=tmp_path, site=site)
    assert left_out.returncode == 2
    assert "No such command 'acme'" in left_out.stderr


def test_steps_run_at_start_and_at_end_in_spite_of_those_that_fail(tmp_path: Path, site: Path) -> None:
    with Server(tmp_path, site=site) as server:
        assert server.url
        assert server.stop() == 0
        lines = [line for line in server.stdout.text.splitlines() if line.startswith(("startup", "shutdown"))]
        assert lines == ["startup True", "shutdown second", "shutdown first True"]
        assert server.stderr.text.count("a step that fails") >= 2
