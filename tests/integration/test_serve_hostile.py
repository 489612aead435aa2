"""Plugins that fail at every stage in every way, beside a host that goes on and says whose fault it was."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from base04.testing.servers.redis import RedisServer
from serve_kit import BASE04, PATIENCE_S, Server, environment, install, run_base04
from workers_kit import redis, settings, workers_of

__all__ = ["redis"]

WAYS = {
    "raises": "raise RuntimeError('hostile: raises')",
    "exits": "import sys; sys.exit('hostile: exits')",
    "interrupts": "raise KeyboardInterrupt('hostile: interrupts')",
    "dooms": "raise Doom('hostile: dooms')",
    "mutters": "raise Mute()",
}
"""How something fails; each is a plugin of its own."""

KINDS = """
class Doom(BaseException):
    pass

class Mute(Exception):
    def __str__(self):
        raise RuntimeError("nothing to say")

def fail():
    {way}
"""

PLUGIN = (
    KINDS
    + """
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from base04_hookspecs import hookimpl
from base04_hookspecs.errors import InvalidInput


class Ward:
    def __init__(self, app):
        fail()


class Counter:
    def collect(self):
        fail()


class Commands:
    def __getattr__(self, name):
        fail()


async def breaking(*_):
    fail()


async def only_marked(call, *_):
    if call.args.get("word") == "{name}":
        fail()


async def marked_after(call, outcome):
    if call.args.get("word") == "after {name}":
        fail()


async def shown(credentials):
    if credentials.headers.get("x-hostile") == "{name}":
        fail()


async def route(request):
    fail()


async def well(request):
    return PlainTextResponse("well")


def offer(*items):
    return hookimpl(lambda: items)


before_action, after_action, authenticate = offer(only_marked), offer(marked_after), offer(shown)
startup, shutdown, audit_event = offer(breaking), offer(breaking), offer(breaking)
mounted = Mount("/{name}/m", routes=[Route("/b", route)])
routes = offer(Route("/{name}/break", route), Route("/{name}/well", well), mounted)
middleware, metrics, cli_commands = offer(Middleware(Ward)), offer(Counter()), offer(Commands())


@hookimpl
def authorize_room():
    fail()
"""
)

AT_IMPORT = KINDS + "\nfail()\n"
AT_REGISTRATION = (
    KINDS
    + """
from base04_hookspecs import hookimpl

class Plugin:
    def __init__(self):
        fail()

    @hookimpl
    def routes(self):
        return []
"""
)
TALKING = """
import warnings

from base04_hookspecs import hookimpl

print("printed while imported")
warnings.warn("warned while imported")

@hookimpl
def routes():
    print("printed while asked for routes")
    return []
"""
PACK = """
pack: acme
version: 1.0.0
actions:
  say: {summary: Say, access: public, handler: "acme_say:say", parameters: {word: {type: string}}, required: [word]}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    for name, way in WAYS.items():
        for stage, text in (("", PLUGIN), ("-import", AT_IMPORT), ("-class", AT_REGISTRATION)):
            module = f"acme_{name}{stage.replace('-', '_')}"
            source = text.replace("{way}", way).replace("{name}", name)
            target = module + (":Plugin" if stage == "-class" else "")
            install(folder, f"acme-{name}{stage}", plugins={name + stage: target}, files={f"{module}.py": source})
    install(folder, "acme-talking", plugins={"talking": "acme_talking"}, files={"acme_talking.py": TALKING})
    files = {"acme_say/pack.yaml": PACK, "acme_say/__init__.py": "async def say(word):\n    return word\n"}
    install(folder, "acme-say", actions={"say": "acme_say"}, files=files)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, site: Path) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("hostile"), site=site) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as anonymous:
        yield anonymous


def module(server: Server, name: str) -> Any:
    with server.admin() as admin:
        return admin.get(f"/modules/{name}").json()


def parts(server: Server, name: str) -> dict[str, Any]:
    return {fault["part"]: fault for fault in module(server, name)["faults"]}


def until(holds: Callable[[], object]) -> None:
    """Wait for what a request leaves behind after its answer."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def says(name: str, text: str) -> bool:
    return f"hostile: {name}" in text if name != "mutters" else "Mute" in text


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("stage", ["import", "class"])
def test_plugin_that_fails_while_it_is_loaded_is_failed(server: Server, name: str, stage: str) -> None:
    found = module(server, f"{name}-{stage}")
    assert found["status"] == "failed"
    assert says(name, found["reason"])
    assert "Traceback" in found["error"]


@pytest.mark.parametrize("name", WAYS)
def test_parts_that_fail_at_start_are_told_and_the_rest_takes_part(server: Server, name: str) -> None:
    assert server.url
    found = parts(server, name)
    for part in ("hook authorize_room", "middleware Ward", "startup breaking"):
        assert says(name, found[part]["reason"])
        assert "in fail" in found[part]["error"]
    assert module(server, name)["status"] == "enabled"
    with server.client() as client:
        assert client.get(f"/{name}/well").text == "well"


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("path", ["break", "m/b"])
def test_route_that_fails_is_a_problem_and_a_fault(server: Server, client: httpx.Client, name: str, path: str) -> None:
    answer = client.get(f"/{name}/{path}")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "hostile" not in answer.text
    part = f"routes /{name}/{path.partition('/')[0]}"
    until(lambda: part in parts(server, name))
    assert says(name, parts(server, name)[part]["reason"])


@pytest.mark.parametrize("name", WAYS)
def test_callables_around_actions_fail_for_one_run_alone(server: Server, client: httpx.Client, name: str) -> None:
    answer = client.post("/actions/acme.say", json={"word": name})
    assert answer.status_code == 500
    assert "hostile" not in answer.text
    assert client.post("/actions/acme.say", json={"word": "hello"}).json() == "hello"
    assert client.post("/actions/acme.say", json={"word": f"after {name}"}).json() == f"after {name}"
    assert {"before_action only_marked", "after_action marked_after"} <= parts(server, name).keys()


@pytest.mark.parametrize("name", WAYS)
def test_authenticator_that_fails_is_a_problem(server: Server, client: httpx.Client, name: str) -> None:
    assert client.get("/acme", headers={"x-hostile": name}).status_code == 500
    assert says(name, parts(server, name)["authenticate shown"]["reason"])


def test_listeners_that_fail_stop_no_audit_event(server: Server) -> None:
    with server.admin() as admin:
        assert admin.post("/api-keys", json={"user_id": "ada"}).status_code == 201
    for name in WAYS:
        assert says(name, parts(server, name)["audit_event breaking"]["reason"])


def test_collectors_that_fail_leave_the_metrics_of_the_others(server: Server) -> None:
    with server.admin() as admin:
        text = admin.get("/metrics").text
    assert "base04_plugins" in text
    for name in WAYS:
        assert says(name, parts(server, name)["metrics Counter"]["reason"])


def test_commands_go_on_without_those_of_plugins_that_fail(tmp_path: Path, site: Path) -> None:
    done = run_base04("--help", cwd=tmp_path, site=site)
    assert (done.returncode, "serve" in done.stdout) == (0, True)
    assert done.stderr.count("a plugin's commands are left out") == len(WAYS)


def test_what_plugins_print_and_warn_never_gets_into_an_answer(tmp_path: Path, site: Path) -> None:
    done = run_base04("plugins", "--json", cwd=tmp_path, site=site)
    found = {item["name"]: item for item in json.loads(done.stdout)["plugins"]}
    assert found["talking"]["status"] == "enabled"
    assert "printed while imported" in done.stderr
    warned = next(json.loads(line) for line in done.stderr.splitlines() if "warned while imported" in line)
    assert warned["level"] == "warning"


def test_command_shows_parts_and_tracebacks_of_the_running_host(server: Server, site: Path) -> None:
    assert server.url
    listed = run_base04("modules", "list", cwd=server.folder, site=site).stdout
    assert "parts failed" in listed
    shown = run_base04("modules", "show", "raises", cwd=server.folder, site=site).stdout
    assert "startup breaking failed" in shown
    assert "Traceback (most recent call last)" in shown
    also = run_base04("plugins", "raises", cwd=server.folder, site=site).stdout
    assert "startup breaking failed" in also


def test_plugins_command_asks_for_hooks_where_no_host_runs(tmp_path: Path, site: Path) -> None:
    shown = run_base04("plugins", "raises", cwd=tmp_path, site=site)
    assert shown.returncode == 0
    assert "hook authorize_room failed" in shown.stdout
    assert "RuntimeError: hostile: raises" in shown.stdout
    unknown = run_base04("plugins", "raise", cwd=tmp_path, site=site)
    assert unknown.returncode == 1
    assert "did you mean" in unknown.stderr
    failing = json.loads(run_base04("doctor", "--json", cwd=tmp_path, site=site).stdout)["findings"]
    assert any(item["level"] == "error" and "hook authorize_room" in item["message"] for item in failing)


def test_host_stops_in_order_in_spite_of_them(tmp_path: Path, site: Path) -> None:
    with Server(tmp_path, site=site) as server:
        assert server.url
        server.signal()
        assert server.wait() == 0
        assert server.stderr.text.count('"hook": "shutdown"') >= len(WAYS)


# Not ready, and never ending

WAITING = """
import pathlib
from base04_hookspecs import hookimpl
from base04_hookspecs.errors import NotReady

async def wait_for_file(app):
    if not pathlib.Path("ready").exists():
        raise NotReady("there is no file 'ready' yet")

@hookimpl
def startup():
    return [wait_for_file]
"""
HANGING = """
import asyncio
from base04_hookspecs import hookimpl

async def hang(app):
    await asyncio.Event().wait()

@hookimpl
def startup():
    return [hang]

@hookimpl
def shutdown():
    return [hang]
"""
SHORT = """
plugins: {step_timeout: 200ms, retry_delay: 50ms}
server: {health_interval: 100ms}
"""


def test_plugin_that_is_not_ready_is_shown_until_it_is(tmp_path: Path) -> None:
    site = tmp_path / "site"
    install(site, "acme-waiting", plugins={"waiting": "acme_waiting"}, files={"acme_waiting.py": WAITING})
    with Server(tmp_path / "host", settings=SHORT, site=site) as server:
        [wait] = module(server, "waiting")["not_ready"]
        assert (wait["hook"], wait["reason"]) == ("startup", "there is no file 'ready' yet")
        shown = run_base04("plugins", "waiting", cwd=server.folder, site=site).stdout
        assert "waiting: enabled, not ready" in shown
        assert "startup is not ready, next try in " in shown
        assert "not ready" in run_base04("modules", "list", cwd=server.folder, site=site).stdout
        with server.admin() as admin:
            until(lambda: admin.get("/health").json()["managers"]["module"]["details"] == "not ready: waiting")
            assert admin.get("/health").json()["status"] == "degraded"
            assert admin.get("/health/ready").status_code == 200
            (server.folder / "ready").touch()
            until(lambda: module(server, "waiting")["not_ready"] == [])
            until(lambda: admin.get("/health").json()["status"] == "healthy")
        assert server.stderr.wait_for("a plugin is ready") is not None
        assert server.stop() == 0


def test_steps_that_never_end_neither_keep_the_host_from_serving_nor_from_stopping(tmp_path: Path) -> None:
    site = tmp_path / "site"
    install(site, "acme-hanging", plugins={"hanging": "acme_hanging"}, files={"acme_hanging.py": HANGING})
    with Server(tmp_path / "host", settings=SHORT, site=site) as server:
        assert "plugins.step_timeout" in parts(server, "hanging")["startup hang"]["reason"]
        assert server.stop() == 0
        assert server.stderr.text.count("a lifecycle step of a plugin failed") == 2


# Tasks that end nobody but themselves

LEAVING = """
import asyncio, sys

tasks = set()

async def leave(how):
    async def now():
        await asyncio.sleep(0)
        if how == "interrupts":
            raise KeyboardInterrupt
        sys.exit(7)

    def at_once():
        sys.exit(8)

    if how == "call":
        asyncio.get_running_loop().call_soon(at_once)
        return how
    task = asyncio.create_task(now())
    tasks.add(task)
    await asyncio.wait([task])
    return repr(task.exception())
"""
LEAVING_PACK = """
pack: acme
version: 1.0.0
actions:
  leave:
    handler: "acme_leave:leave"
    access: public
    parameters: {how: {type: string}}
    required: [how]
"""


def leaving(tmp_path: Path, **how: Any) -> Server:
    site = tmp_path / "site"
    files = {"acme_leave/__init__.py": LEAVING, "acme_leave/pack.yaml": LEAVING_PACK}
    install(site, "acme-leave", actions={"leave": "acme_leave"}, files=files)
    return Server(tmp_path / "host", site=site, **how)


def _leave(server: Server) -> None:
    with server.client() as client:
        for how, told in (("exits", "SystemExit(7)"), ("interrupts", "KeyboardInterrupt()"), ("call", "call")):
            assert client.post("/actions/acme.leave", json={"how": how}).json() == told
        for told in ("SystemExit(7)", "KeyboardInterrupt()", "SystemExit(8)"):
            line = server.stderr.wait_for(f'"error": "{told}"')
            assert line is not None
            assert json.loads(line)["event"] == "a task tried to end the process, which goes on"
        assert client.get("/health/live").status_code == 200


def test_task_that_exits_ends_no_host(tmp_path: Path) -> None:
    with leaving(tmp_path) as server:
        _leave(server)
        assert server.stop() == 0


def test_task_that_exits_ends_no_worker(tmp_path: Path, redis: RedisServer) -> None:
    with leaving(tmp_path, settings=json.dumps(settings(redis))) as server:
        assert server.url
        before = sorted(worker["pid"] for worker in workers_of(server))
        _leave(server)
        assert sorted(worker["pid"] for worker in workers_of(server)) == before
        assert server.stop() == 0


# What doctor makes of a folder where everything is wrong


def test_doctor_tells_everything_at_once(tmp_path: Path) -> None:
    pack = "pack: hello\nversion: 1.0.0\nactions: {greet: {handler: 'os.path:join', access: public}}\n"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "hello.yaml").write_text(pack)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "broken.py").write_text("import a_library_that_is_not_there\n")
    settings = tmp_path / "base04.yaml"
    settings.write_text(
        "plugins: {paths: [plugins], deny: [acme-nobody]}\n"
        "managers:\n"
        "  redis: {provider: server, server: {url: 'redis://:short@127.0.0.1:1/0'}, memory: {}}\n"
        "  action_discovery: {folders: [one, two]}\n"
    )
    settings.chmod(0o666)
    done = run_base04("doctor", "--json", cwd=tmp_path)
    assert done.returncode == 1
    findings = json.loads(done.stdout)["findings"]
    told = [f"{item['level']} {item['subject']}: {item['message']}" for item in findings]
    for part in (
        "error plugin broken: ",
        "error redis: 127.0.0.1:1 cannot be reached",
        "error base04.yaml: Others can write it",
        "error base04.yaml: It holds secrets, and others can read it",
        "The pack 'hello' is also defined in",
        "warning plugins.deny: 'acme-nobody' is the name of no plugin",
        "warning managers.redis.memory: The provider 'server' is chosen",
        "warning managers.redis.server.url: A secret stands in the settings",
        "warning managers.redis: url: The secret has 5 characters",
    ):
        assert any(part in line for line in told), f"{part!r} is not in {told}"
    assert "short" not in done.stdout


# Ctrl-C is nobody's fault


def test_interrupt_of_whoever_runs_a_command_is_obeyed(tmp_path: Path) -> None:
    source = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    install(tmp_path / "site", "acme-pressed", plugins={"pressed": "acme_pressed"}, files={"acme_pressed.py": source})
    done = subprocess.run(
        [BASE04, "plugins"],
        cwd=tmp_path,
        env=environment(tmp_path / "site"),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # whoever runs the tests may ignore it
    )
    assert done.returncode == 130
    assert "pressed" not in done.stdout
