"""Steps of plugins: their timeouts, and further tries of what is not ready."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from base04.app_manager import AppManager
from base04.server.control_socket import LocalCaller
from base04_hookspecs import hookimpl
from base04_hookspecs.errors import ManagerUnavailable, NotReady, UnknownAction
from base04_hookspecs.host_hooks import LifecycleStep
from host_kit import hanging, only, until, write_module


class Gate:
    """What a plugin waits for; counts who has asked."""

    def __init__(self) -> None:
        self.open = False
        self.asked = 0

    def pass_by(self) -> None:
        self.asked += 1
        if not self.open:
            raise NotReady("the gate is shut")


def offering(**hooks: Iterable[Any] | Callable[[], Any]) -> SimpleNamespace:
    """Return a plugin whose hooks return lists, or what functions return."""

    def implementation(given: Any) -> Any:
        @hookimpl
        def hook() -> Any:
            return given() if callable(given) else given

        return hook

    return SimpleNamespace(**{name: implementation(given) for name, given in hooks.items()})


def host(tmp_path: Path, *, plugins: dict[str, Any] | None = None, **offered: Any) -> AppManager:
    settings = only(tmp_path)
    settings["plugins"] = {**settings["plugins"], "retry_delay": 0.01, **(plugins or {})}
    return AppManager(settings, plugins=list(offered.items()))


def waits(app: AppManager, name: str = "acme") -> list[Any]:
    [module] = [item for item in app.list_plugins() if item["name"] == name]
    return list(module["not_ready"])


def faults(app: AppManager, name: str = "acme") -> dict[str, Any]:
    [module] = [item for item in app.list_plugins() if item["name"] == name]
    return {fault["part"]: fault for fault in module["faults"]}


def retries() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("retry ")]


# Not ready


async def test_step_that_is_not_ready_is_tried_again_and_those_after_it_wait(tmp_path: Path) -> None:
    gate, journal = Gate(), list[str]()

    async def before(_: Any) -> None:
        journal.append("before")

    async def waiting(_: Any) -> None:
        gate.pass_by()
        journal.append("ready")

    async def after(_: Any) -> None:
        journal.append("after")

    async def others(_: Any) -> None:
        journal.append("other")

    app = host(tmp_path, acme=offering(startup=[before, waiting, after]), other=offering(startup=[others]))
    with capture_logs() as logs:
        async with app:
            assert journal == ["before", "other"]
            [wait] = waits(app)
            assert (wait["hook"], wait["reason"]) == ("startup", "the gate is shut")
            await until(lambda: gate.asked > 3)
            assert waits(app)[0]["attempts"] > 2
            gate.open = True
            await until(lambda: not waits(app))
            assert journal == ["before", "other", "ready", "after"]
            assert not faults(app)
            assert not retries()
    told = [entry["log_level"] for entry in logs if entry["event"] == "a plugin is not ready and is tried again"]
    assert told.count("warning") == 1, "the same again is no news"
    assert [entry["plugin"] for entry in logs if entry["event"] == "a plugin is ready"] == ["acme"]


async def test_manager_that_is_away_makes_a_step_not_ready(tmp_path: Path) -> None:
    there = False

    async def step(_: Any) -> None:
        if not there:
            raise ManagerUnavailable("the database is away")

    app = host(tmp_path, acme=offering(startup=[step]))
    async with app:
        assert waits(app)[0]["reason"] == "the database is away"
        there = True
        await until(lambda: not waits(app))


async def test_trying_ends_with_another_error(tmp_path: Path) -> None:
    errors: list[BaseException] = [NotReady("not yet"), SystemExit("never")]

    async def step(_: Any) -> None:
        raise errors.pop(0)

    app = host(tmp_path, acme=offering(startup=[step]))
    async with app:
        await until(lambda: not waits(app))
        [fault] = faults(app).values()
        assert fault["reason"] == "SystemExit: never"
        assert fault["part"].startswith("startup ")


async def test_trying_ends_when_the_host_stops(tmp_path: Path) -> None:
    gate = Gate()

    async def step(_: Any) -> None:
        gate.pass_by()

    app = host(tmp_path, acme=offering(startup=[step]))
    async with app:
        await until(lambda: gate.asked > 1)
    assert not retries()
    asked = gate.asked
    gate.open = True
    async with app:  # a new start takes the step anew
        assert gate.asked == asked + 1
        assert not waits(app)


async def test_trying_ends_in_the_middle_of_a_try(tmp_path: Path) -> None:
    begun = asyncio.Event()
    ended: list[str] = []
    first = True

    async def step(_: Any) -> None:
        nonlocal first
        if first:
            first = False
            raise NotReady("not yet")
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cleaned up")

    app = host(tmp_path, acme=offering(startup=[step]))
    async with app:
        await begun.wait()
    assert ended == ["cleaned up"]
    assert not retries()


async def test_trying_ends_when_the_plugin_is_switched_off(tmp_path: Path) -> None:
    gate = Gate()

    async def step(_: Any) -> None:
        gate.pass_by()

    app = host(tmp_path, acme=offering(startup=[step]))
    async with app:
        await app.disable_plugin("acme")
        assert waits(app) == []
        await until(lambda: not retries())
        gate.open, asked = True, gate.asked
        await app.enable_plugin("acme")
        await until(lambda: gate.asked > asked)
        assert waits(app) == []


async def test_trying_goes_on_over_a_change_that_keeps_the_plugin(tmp_path: Path) -> None:
    gate = Gate()

    async def step(_: Any) -> None:
        gate.pass_by()

    app = host(tmp_path, acme=offering(startup=[step]), other=offering(routes=[]))
    async with app:
        await app.disable_plugin("other")
        assert [wait["hook"] for wait in waits(app)] == ["startup"]
        assert len(retries()) == 1
        gate.open = True
        await until(lambda: not waits(app))


async def test_hook_that_is_not_ready_contributes_once_it_is(tmp_path: Path) -> None:
    gate, journal = Gate(), list[str]()

    def routes() -> list[Route]:
        gate.pass_by()
        return [Route("/late", lambda request: PlainTextResponse("late"))]

    def startup() -> list[LifecycleStep]:
        gate.pass_by()

        async def step(_: Any) -> None:
            journal.append("started")

        return [step]

    app = host(tmp_path, acme=offering(routes=routes, startup=startup))
    async with app:
        first = app.generation.number
        assert sorted(wait["hook"] for wait in waits(app)) == ["routes", "startup"]
        assert (await ask(app, "/late"))[0] == 404
        await until(lambda: gate.asked > 5)
        assert app.generation.number == first, "a generation is made only where something has changed"
        gate.open = True
        await until(lambda: not waits(app) and journal)
        assert (await ask(app, "/late")) == (200, b"late")
        assert journal == ["started"]
        assert not faults(app)
    assert not retries()


async def test_packs_that_are_not_ready_are_discovered_once_they_are(tmp_path: Path) -> None:
    gate = Gate()

    async def say(word: str) -> str:
        return word

    def action_packs() -> list[Any]:
        gate.pass_by()
        action = {"handler": say, "access": "public", "parameters": {"word": {"type": "string"}}, "required": ["word"]}
        return [{"pack": "late", "version": "1.0.0", "actions": {"say": action}}]

    settings = only(tmp_path, **{role: {} for role in ("action_discovery", "vault", "services", "hooks")})
    settings["plugins"] = {**settings["plugins"], "retry_delay": 0.01}
    app = AppManager(settings, plugins=[("acme", offering(action_packs=action_packs))])
    async with app:
        assert [wait["hook"] for wait in waits(app)] == ["action_packs"]
        with pytest.raises(UnknownAction):
            await app.run_action("late.say", {"word": "hi"})
        gate.open = True
        await until(lambda: not waits(app))
        assert await app.run_action("late.say", {"word": "hi"}) == "hi"


async def ask(app: AppManager, path: str) -> tuple[int, bytes]:
    """Ask a host as its own user."""
    sent: list[dict[str, Any]] = []
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": path,
        "headers": [],
        "query_string": b"",
        "client": None,
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await LocalCaller(app.serve)(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


# Timeouts


async def test_steps_that_never_end_are_given_up(tmp_path: Path) -> None:
    async def stubborn(_: Any) -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    offered = offering(startup=[hanging, stubborn], shutdown=[hanging])
    app = host(tmp_path, plugins={"step_timeout": 0.05}, acme=offered)
    with capture_logs() as logs:
        async with app:
            found = faults(app)
            assert all(
                "within the 0.05 s that plugins.step_timeout allows" in item["reason"] for item in found.values()
            )
            assert len(found) == 2
            assert app.is_initialized()
    failed = [entry for entry in logs if entry["event"] == "a lifecycle step of a plugin failed"]
    assert [entry["hook"] for entry in failed] == ["startup", "startup", "shutdown"]


async def test_what_is_no_step_is_told(tmp_path: Path) -> None:
    def step(_: Any) -> None: ...

    app = host(tmp_path, acme=offering(startup=[step]))
    async with app:
        [fault] = faults(app).values()
        assert "write it as an `async def`" in fault["reason"]


async def test_step_that_takes_long_is_named_while_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("base04.plugins.watchdog.SLOW_S", 0.01)
    with capture_logs() as logs:

        async def slow(_: Any) -> None:
            await until(lambda: any(entry["event"].endswith("has not ended") for entry in logs))

        async with host(tmp_path, acme=offering(startup=[slow])):
            pass
    told = [entry for entry in logs if entry["event"].startswith("a plugin t")]
    assert {(entry["plugin"], entry["stage"]) for entry in told} >= {("acme", "startup")}
    assert any(entry["event"] == "a plugin that took long has ended" for entry in told)


async def test_step_that_blocks_the_loop_is_named_while_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("base04.plugins.watchdog.SLOW_S", 0.01)
    with capture_logs() as logs:

        async def blocking(_: Any) -> None:
            give_up = time.monotonic() + 30
            while not any(entry["event"].endswith("has not ended") for entry in logs):
                assert time.monotonic() < give_up
                time.sleep(0.001)  # noqa: ASYNC251 - that is what it is about

        async with host(tmp_path, acme=offering(startup=[blocking])) as app:
            assert not faults(app)
    assert any(entry["event"] == "a plugin that took long has ended" for entry in logs)


# Loading


def test_plugin_that_is_slow_to_load_is_named_with_the_stage(tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    write_module(folder, "steps_slow_import", "import time\ntime.sleep(0.02)\n")
    hook = "from base04_hookspecs import hookimpl\n@hookimpl\ndef routes():\n    import time\n    time.sleep(0.02)\n"
    write_module(folder, "steps_slow_hook", hook)
    app = AppManager({**only(tmp_path), "plugins": {"autoload": False, "paths": [str(folder)], "slow_after": 0.02}})
    from base04.plugins.contributions import collect

    with capture_logs() as logs:
        collect(app.discovery, app)
    slow = {(entry["plugin"], entry["stage"]) for entry in logs if entry["event"] == "a plugin is slow to load"}
    assert {("steps_slow_import", "import"), ("steps_slow_hook", "hook routes")} <= slow
    json.dumps(app.list_plugins())
