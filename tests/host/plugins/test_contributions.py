from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.middleware import Middleware
from starlette.routing import Route
from structlog.testing import capture_logs

from base04.discovery import Discovery, discover
from base04.plugins.contributions import Contributions, collect, collect_commands
from base04.settings import PluginSettings
from base04_hookspecs import hookimpl

APP: Any = SimpleNamespace(name="the host")
LISTS = ("authenticate", "before_action", "after_action", "audit_event", "authorize_room")


def discovered(**plugins: object) -> Discovery:
    discovery = discover(PluginSettings(autoload=False), extra_plugins=plugins.items())
    assert not discovery.failed()
    return discovery


def plugin(**hooks: Any) -> SimpleNamespace:
    """Return a plugin whose hooks return the given values, or raise them."""

    def implementation(value: Any) -> Any:
        @hookimpl
        def hook() -> Any:
            if isinstance(value, BaseException):
                raise value
            return value

        return hook

    return SimpleNamespace(**{name: implementation(value) for name, value in hooks.items()})


def test_contributions_keep_the_order_of_the_names_of_the_plugins() -> None:
    def first(*_: Any) -> None: ...
    def second(*_: Any) -> None: ...
    def third(*_: Any) -> None: ...

    hooks = (*LISTS, "startup", "shutdown")
    b = plugin(**{hook: [second, third] for hook in hooks})
    a = plugin(**{hook: [first] for hook in hooks})
    found = collect(discovered(plugin_b=b, plugin_a=a), APP)
    for name in LISTS:
        assert getattr(found, name) == (first, second, third)
    for name in ("startup", "shutdown"):
        assert getattr(found, name) == (("plugin_a", first), ("plugin_b", second), ("plugin_b", third))


def test_contributions_of_routes_middleware_and_commands() -> None:
    route, middleware = Route("/x", print), Middleware(SimpleNamespace)  # type: ignore[arg-type]  # never called
    discovery = discovered(web=plugin(routes=[route], middleware=[middleware], cli_commands=["commands"]))
    found = collect(discovery, APP)
    assert found.routes == (("web", route),)
    assert found.middleware == (middleware,)
    assert collect_commands(discovery) == [("web", "commands")]


def test_contributions_of_a_hook_that_gives_nothing() -> None:
    assert collect(discovered(quiet=plugin(routes=None, startup=[], middleware=())), APP) == Contributions()


def test_contributions_of_a_hook_that_fails_are_reported_and_stop_nobody() -> None:
    async def listener(_: Any) -> None: ...

    def breaking() -> Iterable[Any]:
        yield listener
        raise RuntimeError("half way")

    discovery = discovered(
        a=plugin(audit_event=ValueError("no luck"), startup=[listener]),
        b=plugin(audit_event=breaking()),
        c=plugin(audit_event=SystemExit(1)),
        d=plugin(audit_event=7),
        e=plugin(audit_event=[listener]),
    )
    with capture_logs() as logs:
        found = collect(discovery, APP)
    assert found.audit_event == (listener,)
    assert found.startup == (("a", listener),)
    [fault] = discovery.plugins["a"].faults
    assert (fault.part, fault.reason) == ("hook audit_event", "ValueError: no luck")
    assert "Traceback" in fault.error
    assert not discovery.plugins["e"].faults
    assert [entry["plugin"] for entry in logs if entry["hook"] == "audit_event"] == ["a", "b", "c", "d"]


def test_contributions_are_collected_anew_for_each_generation() -> None:
    calls: list[int] = []

    @hookimpl
    def startup() -> list[Any]:
        calls.append(1)
        return []

    discovery = discovered(counting=SimpleNamespace(startup=startup))
    assert not calls
    collect(discovery, APP)
    collect(discovery, APP)
    assert len(calls) == 2


@pytest.mark.parametrize("hook", [*LISTS, "routes", "middleware", "metrics"])
def test_hook_is_given_the_host_where_it_takes_it(hook: str) -> None:
    given: list[Any] = []

    class Asking:
        @hookimpl(specname=hook)
        def implementation(self, app: Any) -> None:
            given.append(app)

    collect(discovered(asking=Asking()), APP)
    assert given == [APP]


@pytest.mark.parametrize("hook", ["startup", "shutdown", "cli_commands", "action_packs"])
def test_hook_that_is_called_without_a_host_cannot_take_it(hook: str) -> None:
    @hookimpl(specname=hook)
    def implementation(app: Any) -> None: ...

    discovery = discover(
        PluginSettings(autoload=False), extra_plugins=[("asking", SimpleNamespace(implementation=implementation))]
    )
    assert [plugin.name for plugin in discovery.failed()] == ["asking"]
