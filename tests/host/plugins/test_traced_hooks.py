"""Hooks that are timed do what they did; those that are not are called as they are."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from structlog.testing import capture_logs

from base04.app_manager import AppManager
from base04.metrics.exposition import exposition
from base04.plugins import plugin_watch
from base04.plugins.signatures import is_async
from base04.server.control_socket import LocalCaller
from base04_hookspecs import hookimpl
from host_kit import only, until


class Signing:
    """Middleware that adds a header."""

    def __init__(self, app: Any, name: str) -> None:
        self.app, self.name = app, name

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def signed(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-signed", self.name.encode())]
            await send(message)

        await self.app(scope, receive, signed)


class Office:
    """A plugin with every hook that is timed."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def before(self, call: Any) -> None:
        self.seen.append("before")

    async def after(self, call: Any, outcome: Any) -> None:
        self.seen.append("after")
        raise RuntimeError("this is only noted")

    def authorize(self, principal: Any, room: str, operation: str) -> bool:
        return room == "open"

    async def listen(self, event: Any) -> None: ...

    async def step(self, app: Any) -> None: ...

    async def hello(self, request: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    @hookimpl
    def routes(self) -> Iterable[Any]:
        return [Route("/hello", self.hello), Mount("/below", routes=[Route("/hello", self.hello)])]

    @hookimpl
    def middleware(self) -> Iterable[Any]:
        return [Middleware(Signing, name="outer"), Middleware(Signing, name="inner")]

    @hookimpl
    def before_action(self) -> Iterable[Any]:
        return [self.before]

    @hookimpl
    def after_action(self) -> Iterable[Any]:
        return [self.after]

    @hookimpl
    def authorize_room(self) -> Iterable[Any]:
        return [self.authorize]

    @hookimpl
    def audit_event(self) -> Iterable[Any]:
        return [self.listen]

    @hookimpl
    def startup(self) -> Iterable[Any]:
        return [self.step]

    @hookimpl
    def action_packs(self) -> Iterable[Any]:
        async def say(word: str) -> str:
            await asyncio.sleep(0)
            return word

        action = {"handler": say, "access": "public", "parameters": {"word": {"type": "string"}}, "required": ["word"]}
        return [{"pack": "office", "version": "1.0.0", "actions": {"say": action}}]


def host(tmp_path: Path, office: Office, **plugins: Any) -> AppManager:
    switched_on: dict[str, Any] = {
        role: {} for role in ("action_discovery", "module", "services", "hooks", "vault", "redis")
    }
    settings = only(tmp_path, **switched_on)
    settings["plugins"] = {**settings["plugins"], **plugins}
    return AppManager(settings, plugins=[("office", office)])


def timings(app: AppManager) -> dict[tuple[str, str], Any]:
    [module] = [item for item in app.list_plugins() if item["name"] == "office"]
    return {(timing["hook"], timing["stage"]): timing for timing in module["timings"]}


async def ask(app: AppManager, path: str) -> tuple[int, list[bytes]]:
    sent: list[dict[str, Any]] = []
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await LocalCaller(app.serve)({**scope, "client": None}, receive, send)
    return sent[0]["status"], [value for name, value in sent[0]["headers"] if name == b"x-signed"]


async def test_every_call_is_counted_and_does_what_it_did(tmp_path: Path) -> None:
    office = Office()
    async with host(tmp_path, office, trace_hooks=True) as app:
        assert (await ask(app, "/hello")) == (200, [b"inner", b"outer"])
        assert (await ask(app, "/below/hello"))[0] == 200
        assert await app.run_action("office.say", {"word": "hi"}) == "hi"
        await app.audit.record("acme.happened", "success")
        [authorizer] = app.generation.contributions.authorize_room
        principal: Any = SimpleNamespace()
        assert (authorizer(principal, "open", "join"), authorizer(principal, "other", "join")) == (True, False)
        assert not is_async(authorizer), "who asks runs a `def` in a thread"
        found = timings(app)
        counts = {key: timing["count"] for key, timing in found.items()}
        assert counts == {
            **{(hook, "collect"): 1 for hook in ("routes", "middleware", "before_action", "after_action")},
            **{(hook, "collect"): 1 for hook in ("authorize_room", "audit_event", "startup")},
            ("routes", "call"): 2,
            ("middleware", "call"): 4,
            ("before_action", "call"): 1,
            ("after_action", "call"): 1,
            ("authorize_room", "call"): 2,
            ("audit_event", "call"): 1,
            ("startup", "call"): 1,
        }
        assert all(0 <= timing["max"] <= timing["total"] for timing in found.values())
        [module] = [item for item in app.list_plugins() if item["name"] == "office"]
        assert [fault["part"] for fault in module["faults"]] == ["after_action Office.after"], "it is still its own"
    assert office.seen == ["before", "after"]


async def test_time_below_a_middleware_is_not_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("base04.plugins.traced_hooks.perf_counter", lambda: now)

    class Slow(Office):
        async def hello(self, request: Any) -> PlainTextResponse:
            nonlocal now
            now += 5.0
            return PlainTextResponse("late")

    async with host(tmp_path, Slow(), trace_hooks=True) as app:
        await ask(app, "/hello")
        found = timings(app)
        assert found["routes", "call"]["total"] == found["routes", "call"]["max"] == 5.0
        assert found["middleware", "call"]["total"] == 0.0


async def test_nothing_is_wrapped_where_nothing_is_traced(tmp_path: Path) -> None:
    office = Office()
    async with host(tmp_path, office) as app:
        contributions = app.generation.contributions
        assert contributions.before_action == (office.before,)
        assert contributions.after_action == (office.after,)
        assert contributions.audit_event == (office.listen,)
        assert [type(item).__name__ for _, item in contributions.routes] == ["Route", "Mount"]
        classes: list[Any] = [item.cls for item in contributions.middleware]
        assert classes == [Signing, Signing]
        assert not any("timings" in module for module in app.list_plugins())


async def test_callable_that_is_slow_is_named_once_in_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    office = Office()
    async with host(tmp_path, office, slow_after=1e-9) as app:
        with capture_logs() as logs:
            for _ in range(3):
                await app.run_action("office.say", {"word": "hi"})
            monkeypatch.setattr(plugin_watch, "QUIET_S", 0.0)
            await app.run_action("office.say", {"word": "hi"})
    slow = [entry for entry in logs if entry["event"] == "a callable of a plugin is slow"]
    before = [entry for entry in slow if entry["part"] == "before_action Office.before"]
    assert [(entry["plugin"], entry["slow_since"]) for entry in before] == [("office", 0), ("office", 2)]
    assert {entry["part"] for entry in slow} == {"before_action Office.before", "after_action Office.after"}


async def test_callable_that_hangs_is_named_while_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("base04.plugins.watchdog.SLOW_S", 0.0)
    go_on = asyncio.Event()

    class Hanging(Office):
        async def before(self, call: Any) -> None:
            await go_on.wait()

    office = Hanging()
    settings = host(tmp_path, office).settings
    app = AppManager({**settings.document.values, "server": {"health_interval": 0.01}}, plugins=[("office", office)])
    with capture_logs() as logs:

        def named() -> list[Any]:
            return [item for item in logs if item["event"] == "a callable of a plugin takes long and has not ended"]

        async with app:
            run = asyncio.create_task(app.run_action("office.say", {"word": "hi"}))
            await until(named)
            latest = app.health.latest
            await until(lambda: app.health.latest is not latest)
            go_on.set()
            assert await run == "hi"
    [entry] = [item for item in named() if item["part"].startswith("before_action ")]
    assert (entry["plugin"], entry["action"]) == ("office", "office.say")


class Strange:
    """What no hook should give; looking at it raises."""

    def __getattr__(self, name: str) -> Any:
        raise LookupError(f"there is no {name}")

    def __repr__(self) -> str:
        raise LookupError("it cannot be shown")


@pytest.mark.parametrize("trace", [True, False])
async def test_what_is_not_what_it_should_be_keeps_no_host_from_starting(tmp_path: Path, trace: bool) -> None:
    hooks = ["routes", "middleware", "metrics", "authenticate", "before_action", "after_action", "audit_event"]
    hooks += ["authorize_room", "startup", "shutdown"]

    def giving(hook: str) -> Any:
        @hookimpl(specname=hook)
        def implementation() -> Iterable[Any]:
            return itertools.repeat(None) if hook == "shutdown" else [7, Strange()]

        return implementation

    strange = SimpleNamespace(**{f"give_{hook}": giving(hook) for hook in hooks})
    settings = only(tmp_path)
    settings["plugins"] = {**settings["plugins"], "trace_hooks": trace}
    async with AppManager(settings, plugins=[("strange", strange)]) as app:
        exposition(app, app.generation)
        [module] = [item for item in app.list_plugins() if item["name"] == "strange"]
    told = {fault["part"].split()[-1 if fault["part"].startswith("hook ") else 0] for fault in module["faults"]}
    assert told == set(hooks)
