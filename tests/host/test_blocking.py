"""The host for code that is not async: started, served, used and stopped by ordinary functions."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from base04.blocking import AppManager
from base04.errors import FolderInUse, SettingsError, StartError, StopError
from base04.proxies import BlockingProxy, CalledOnLoop
from base04_hookspecs import ANONYMOUS, Principal, RequestContext, blocking
from base04_hookspecs.context import use_request
from base04_hookspecs.errors import Conflict, ManagerUnavailable, NotFound, PermissionDenied, UnknownAction
from base04_hookspecs.roles import ROLES
from host_kit import Plain, offering, only

HOST_THREAD = "base04-loop"


def settings_in(folder: Path) -> dict[str, Any]:
    return {"data_dir": str(folder / "data"), "plugins": {"allow": ["builtin-*"]}, "server": {"port": 0}}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[AppManager]:
    """A host with the embedded default, started."""
    with AppManager(settings_in(tmp_path)) as manager:
        yield manager


def host_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == HOST_THREAD]


# Start and stop


def test_host_runs_in_a_thread_between_start_and_stop(tmp_path: Path) -> None:
    manager = AppManager(settings_in(tmp_path))
    assert not manager.is_initialized()
    assert host_threads() == []
    manager.start()
    manager.start()
    assert manager.is_initialized()
    assert len(host_threads()) == 1
    assert manager.data_dir == tmp_path / "data"
    manager.stop()
    assert host_threads() == []
    assert not manager.is_initialized()
    manager.stop()


def test_host_starts_again_with_what_it_kept(tmp_path: Path) -> None:
    manager = AppManager(settings_in(tmp_path))
    with manager:
        manager.vault_manager.set_secret_value("app", "colour", "blue")
    with manager:
        assert manager.vault_manager.get_secret_value("app", "colour") == "blue"


def test_managers_are_unavailable_before_start_and_after_stop(tmp_path: Path) -> None:
    manager = AppManager(settings_in(tmp_path))
    with pytest.raises(ManagerUnavailable, match=r"call `start\(\)`"):
        manager.get_redis_manager()
    with pytest.raises(ManagerUnavailable, match="has not started"):
        manager.check_database_connection()
    manager.start()
    redis = manager.get_redis_manager()
    assert redis.ping()
    manager.stop()
    with pytest.raises(ManagerUnavailable):
        redis.ping()
    with pytest.raises(ManagerUnavailable):
        manager.run_action("anything")


def test_errors_of_settings_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="data_dirr"):
        AppManager({"data_dirr": str(tmp_path)})


def test_errors_of_start_keep_their_type_and_leave_no_thread(app: AppManager) -> None:
    second = AppManager({"data_dir": str(app.data_dir), "plugins": {"allow": ["builtin-*"]}})
    with pytest.raises(FolderInUse):
        second.start()
    assert not second.is_initialized()
    assert len(host_threads()) == 1
    assert app.get_redis_manager().ping()


class Unsteady(Plain):
    """A manager that fails when it is told to."""

    role = "unsteady"
    fail_in: ClassVar[str] = ""
    stopped: ClassVar[list[str]] = []

    async def start(self) -> None:
        if self.fail_in == "start":
            raise ValueError("no start")

    async def stop(self) -> None:
        self.stopped.append("stop")
        if self.fail_in == "stop":
            raise ValueError("no stop")


def unsteady(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fail_in: str) -> AppManager:
    monkeypatch.setattr(Unsteady, "fail_in", fail_in)
    monkeypatch.setattr(Unsteady, "stopped", [])
    return AppManager(only(tmp_path), plugins=iter([("unsteady", offering(Unsteady))]))


def test_manager_that_does_not_start_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = unsteady(monkeypatch, tmp_path, "start")
    for _ in range(2):
        with pytest.raises(StartError, match="no start"):
            manager.start()
    assert host_threads() == []
    assert Unsteady.stopped == ["stop", "stop"]


def test_manager_that_does_not_stop_is_named_and_the_thread_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = unsteady(monkeypatch, tmp_path, "stop")
    manager.start()
    with pytest.raises(StopError, match="no stop"):
        manager.stop()
    assert host_threads() == []
    manager.stop()


def test_many_threads_start_and_stop_one_host(tmp_path: Path) -> None:
    manager = AppManager(settings_in(tmp_path))
    barrier = threading.Barrier(6)
    errors: list[BaseException] = []

    def start() -> None:
        barrier.wait(30)
        try:
            manager.start()
            assert manager.get_redis_manager().ping()
        except BaseException as error:
            errors.append(error)

    def together(function: Callable[[], None]) -> None:
        threads = [threading.Thread(target=function) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def stop() -> None:
        barrier.wait(30)
        manager.stop()

    together(start)
    assert errors == []
    assert len(host_threads()) == 1
    together(stop)
    assert host_threads() == []


# Managers


def test_every_role_has_a_proxy(app: AppManager) -> None:
    for role, contract in ROLES.items():
        proxy = app.get_manager(role)
        assert isinstance(proxy, BlockingProxy)
        assert proxy.role == role
        assert proxy.health_check()["status"] == "healthy"
        assert app.get_manager(role) is proxy
        public = [name for name in vars(getattr(blocking, contract.__name__)) if not name.startswith("_")]
        assert set(public) <= set(dir(proxy))


def test_accessors_of_the_specification(app: AppManager) -> None:
    assert app.get_state_manager() is app.get_manager("state")
    assert app.get_redis_manager() is app.get_manager("redis")
    assert app.get_websocket_manager() is app.get_manager("websocket")
    assert app.jwt_manager is app.get_manager("jwt")
    assert app.api_key_manager is app.get_manager("api_key")
    assert app.vault_manager is app.get_manager("vault")
    assert app.rate_limiter_manager is app.get_manager("rate_limiter")
    assert app.action_discovery_manager is app.get_manager("action_discovery")
    assert app.module_manager is app.get_manager("module")
    assert app.services_manager is app.get_manager("services")
    assert app.hooks_manager is app.get_manager("hooks")
    assert app.get_db_manager().check_connection()


def test_host_answers_for_itself(app: AppManager) -> None:
    assert app.check_database_connection()
    assert app.check_redis_connection()
    health = app.health_check()
    assert health["status"] == "healthy"
    assert {plugin["name"] for plugin in app.list_plugins()} >= {"builtin-redis", "builtin-jwt"}
    assert app.list_action_sources() == []
    with pytest.raises(NotFound, match="no manager"):
        app.get_manager("mailer")
    with pytest.raises(UnknownAction):
        app.run_action("nothing.here", principal=ANONYMOUS)


def test_managers_see_the_request_of_the_caller(app: AppManager) -> None:
    ada = Principal("ada", ("notes.read",), "token")
    with use_request(RequestContext("r1", ada)), pytest.raises(PermissionDenied):
        app.api_key_manager.generate_api_key("ada", ["notes.write"])
    key = app.api_key_manager.generate_api_key("ada", ["notes.write"])
    assert app.api_key_manager.validate_api_key(key)["permissions"] == ["notes.write"]


def test_callbacks_may_use_managers_however_many_wait(app: AppManager) -> None:
    """More callbacks wait at once for a manager that works in threads than a loop has threads by default."""
    callbacks = 40
    barrier = threading.Barrier(callbacks)

    def remember(number: int) -> str:
        barrier.wait(60)
        app.vault_manager.set_secret_value(f"callback/{number}", "value", str(number))
        return app.vault_manager.get_secret_value(f"callback/{number}", "value")

    app.hooks_manager.register_callback("told", remember)
    answers: list[list[Any]] = []
    threads = [
        threading.Thread(
            target=lambda number=number: answers.append(app.hooks_manager.trigger_hook("told", number=number))
        )
        for number in range(callbacks)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers, key=lambda answer: int(answer[0])) == [[str(number)] for number in range(callbacks)]


def test_async_callback_cannot_stop_the_host_it_runs_on(app: AppManager) -> None:
    refused: list[BaseException] = []

    async def stop_all() -> None:
        for call in (app.stop, app.start, app.run, app.get_redis_manager().ping):
            try:
                call()
            except CalledOnLoop as error:
                refused.append(error)

    app.hooks_manager.register_callback("end", stop_all)
    app.hooks_manager.trigger_hook("end")
    assert len(refused) == 4
    assert "AppManager.stop" in str(refused[0])
    assert app.is_initialized()


# Serving


def test_run_serves_until_stop(tmp_path: Path) -> None:
    manager = AppManager(settings_in(tmp_path))
    with serving(manager) as url:
        assert httpx2.get(f"{url}/health/live").status_code == 200
        assert manager.is_initialized()
        with pytest.raises(Conflict, match="serves already"):
            manager.run()
        manager.stop()
        assert not manager.is_initialized()
    assert host_threads() == []
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{url}/health/live")


@contextlib.contextmanager
def serving(manager: AppManager, app: Starlette | None = None) -> Iterator[str]:
    """Run a host in a thread, and wait until it serves."""
    urls: list[str] = []
    listening = threading.Event()

    async def on_ready(url: str) -> None:
        urls.append(url)
        listening.set()

    def run() -> None:
        try:
            manager.run(app, on_ready=on_ready)
        finally:
            listening.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert listening.wait(60)
        assert urls, "the host ended before it listened"
        yield urls[0]
    finally:
        manager.stop()
        thread.join()


def own_application(manager: AppManager, events: list[str]) -> Starlette:
    """An application that was there before the host: with a lifespan and a function that is not async."""

    def visits(request: Request) -> JSONResponse:
        return JSONResponse(manager.get_redis_manager().incr("visits"))

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        events.append("up" if manager.is_initialized() else "up before the host")
        yield
        events.append("down" if manager.is_initialized() else "down after the host")

    return Starlette(routes=[Route("/visits", visits)], lifespan=lifespan)


def test_run_serves_an_application_that_the_host_joined(tmp_path: Path) -> None:
    manager, events = AppManager(settings_in(tmp_path)), list[str]()
    app = own_application(manager, events)
    manager.initialize(app)
    assert manager.is_initialized()
    with serving(manager, app) as url:
        assert httpx2.get(f"{url}/visits").json() == 1
        assert httpx2.get(f"{url}/visits").json() == 2
        assert httpx2.get(f"{url}/health/live").status_code == 200
    assert events == ["up", "down"]
    assert not manager.is_initialized()


def test_another_server_may_serve_the_application(tmp_path: Path) -> None:
    manager, events = AppManager(settings_in(tmp_path)), list[str]()
    app = own_application(manager, events)
    manager.initialize(app)
    for visits in (1, 1):  # the host starts again with the application, and its memory is new
        with TestClient(app) as client:
            assert client.get("/visits").json() == visits
            assert client.get("/health/live").status_code == 200
            assert client.post("/actions/no.such", json={}).status_code in (401, 404)
        assert not manager.is_initialized()
    assert events == ["up", "down"] * 2
    assert host_threads() == []


def test_requests_are_refused_while_the_host_is_stopped(tmp_path: Path) -> None:
    manager = AppManager(settings_in(tmp_path))
    app = Starlette(routes=[Route("/own", lambda request: PlainTextResponse("own"))])
    manager.initialize(app)
    manager.stop()
    client = TestClient(app)
    assert client.get("/own").text == "own"
    assert client.get("/health/ready").status_code == 503


# Programs


PREAMBLE = """
    import asyncio, os, signal, sys, threading
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from host_kit import Plain, offering, only
    from base04.blocking import AppManager

    log = Path({log!r})

    def say(text):
        with log.open("a") as file:
            print(text, file=file, flush=True)

    class Careful(Plain):
        role = "careful"

        async def stop(self):
            await asyncio.to_thread(say, "stopped")

    settings = {{**only(Path({folder!r})), "server": {{"port": 0}}}}
    manager = AppManager(settings, plugins=[("careful", offering(Careful))])
"""


def run_program(tmp_path: Path, body: str) -> tuple[list[str], subprocess.CompletedProcess[str]]:
    """Run a program with a host that says when it has stopped, and return what was said."""
    log = tmp_path / "log"
    tests = str(Path(__file__).parents[1])
    text = textwrap.dedent(PREAMBLE).format(tests=tests, log=str(log), folder=str(tmp_path)) + textwrap.dedent(body)
    ended = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=120, check=False)
    return log.read_text().splitlines() if log.exists() else [], ended


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("raise ValueError('gone')", 1),
        ("os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT),
    ],
    ids=["end", "exit", "error", "interrupt"],
)
def test_program_that_forgets_to_stop_exits_and_stops_managers(tmp_path: Path, ending: str, status: int) -> None:
    said, ended = run_program(tmp_path, f"manager.start()\nsay('started')\n{ending}")
    assert said == ["started", "stopped"], ended.stderr
    assert ended.returncode == status


def test_interrupting_a_start_undoes_it(tmp_path: Path) -> None:
    said, ended = run_program(
        tmp_path,
        """
        class Slow(Careful):
            role = "slow"

            async def start(self):
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.Event().wait()

        manager = AppManager(settings, plugins=[("slow", offering(Slow))])
        try:
            manager.start()
        except KeyboardInterrupt:
            say(f"interrupted {manager.is_initialized()} {threading.active_count()}")
        """,
    )
    assert said == ["stopped", "interrupted False 1"], ended.stderr
    assert ended.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_signal_lets_requests_finish_and_stops_managers(tmp_path: Path, number: signal.Signals) -> None:
    said, ended = run_program(
        tmp_path,
        f"""
        import urllib.request
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse
        from starlette.routing import Route

        called, signalled = threading.Event(), threading.Event()

        def slow(request):
            called.set()
            signalled.wait(60)
            return PlainTextResponse("answered")

        async def on_ready(url):
            threading.Thread(target=call, args=(url,), daemon=True).start()
            threading.Thread(target=interrupt, daemon=True).start()

        def call(url):
            say(urllib.request.urlopen(url + "/slow").read().decode())
            answered.set()

        def interrupt():
            called.wait(60)
            os.kill(os.getpid(), {int(number)})
            signalled.set()

        answered = threading.Event()
        app = Starlette(routes=[Route("/slow", slow)])
        manager.initialize(app)
        before = signal.getsignal(signal.SIGTERM)
        manager.run(app, on_ready=on_ready)
        answered.wait(60)
        say(f"ended {{manager.is_initialized()}} {{signal.getsignal(signal.SIGTERM) == before}}")
        """,
    )
    assert sorted(said) == ["answered", "ended False True", "stopped"], ended.stderr
    assert said[-1] == "ended False True"
    assert ended.returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_process_has_no_host_and_exits(tmp_path: Path) -> None:
    said, ended = run_program(
        tmp_path,
        """
        manager.start()
        if os.fork() == 0:
            say(f"child {manager.is_initialized()}")
            try:
                manager.health_check()
            except Exception as error:
                say(type(error).__name__)
            sys.exit(0)
        os.wait()
        say(f"parent {manager.is_initialized()}")
        manager.stop()
        """,
    )
    assert said == ["child False", "ManagerUnavailable", "parent True", "stopped"], ended.stderr


def test_task_that_exits_leaves_the_loop_of_the_host_running(app: AppManager) -> None:
    async def leave() -> None:
        raise SystemExit(7)

    async def begin(**_: Any) -> str:
        task = asyncio.create_task(leave())
        await asyncio.wait([task])
        return repr(task.exception())

    app.hooks_manager.register_callback("acme.leave", begin)
    with capture_logs() as logs:
        assert app.hooks_manager.trigger_hook("acme.leave") == ["SystemExit(7)"]
    assert app.is_initialized()
    assert "a task tried to end the process, which goes on" in {entry["event"] for entry in logs}
