"""What plugins wrote fits specifications that have grown since."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from base04.discovery import Discovery, discover
from base04.plugins.contributions import Contributions, collect
from base04.plugins.signatures import SignatureRefused, fitted
from base04.settings import PluginSettings
from base04_hookspecs import hookimpl, hookspec, host_hooks
from base04_hookspecs.host_hooks import ARGUMENTS, Arguments
from base04_hookspecs.roles import HOOK_SPECIFICATIONS

APP: Any = SimpleNamespace(name="the host")
TODAY = Arguments(("call", "outcome"))
GROWN = Arguments(("call", "outcome"), ("attempt",))
GIVEN = {"attempt": 3}


def nothing() -> Any:
    return ()


def first(call: Any) -> Any:
    return (call,)


def both(call: Any, outcome: Any) -> Any:
    return (call, outcome)


def under_other_names(a: Any, b: Any) -> Any:
    return (a, b)


def with_an_option(call: Any, outcome: Any, strict: bool = True) -> Any:
    return (call, outcome, strict)


def newest(call: Any, outcome: Any, attempt: int) -> Any:
    return (call, outcome, attempt)


def newest_alone(*, attempt: int) -> Any:
    return (attempt,)


def second_by_name(*, outcome: Any) -> Any:
    return (outcome,)


def anything(*given: Any, **named: Any) -> Any:
    return (*given, *named.values())


class Counting:
    def __call__(self, call: Any) -> Any:
        return (call,)


@pytest.mark.parametrize(
    ("function", "today", "grown"),
    [
        (nothing, (), ()),
        (first, ("c",), ("c",)),
        (both, ("c", "o"), ("c", "o")),
        (under_other_names, ("c", "o"), ("c", "o")),
        (with_an_option, ("c", "o", True), ("c", "o", True)),
        (anything, ("c", "o"), ("c", "o", 3)),
        (second_by_name, ("o",), ("o",)),
        (Counting(), ("c",), ("c",)),
        (partial(both, "own"), ("own", "c"), ("own", "c")),
    ],
)
def test_callable_gets_what_it_takes_today_and_when_more_is_offered(
    function: Callable[..., Any], today: tuple[Any, ...], grown: tuple[Any, ...]
) -> None:
    if isinstance(function, partial):
        assert fitted(function, Arguments(("call",)), "x")("c") == today
        assert fitted(function, Arguments(("call",), ("attempt",)), "x")("c", **GIVEN) == grown
        return
    assert fitted(function, TODAY, "after_action")("c", "o") == today
    assert fitted(function, GROWN, "after_action")("c", "o", **GIVEN) == grown


@pytest.mark.parametrize(("function", "got"), [(newest, ("c", "o", 3)), (newest_alone, (3,))])
def test_callable_that_names_what_came_later_gets_it(function: Callable[..., Any], got: tuple[Any, ...]) -> None:
    assert fitted(function, GROWN, "after_action")("c", "o", **GIVEN) == got


def test_callable_that_takes_everything_is_called_itself() -> None:
    assert fitted(both, TODAY, "after_action") is both
    assert fitted(newest, GROWN, "after_action") is newest
    assert fitted(print, TODAY, "after_action")


@pytest.mark.parametrize("function", [newest, newest_alone])
def test_callable_that_asks_for_what_is_not_offered_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(SignatureRefused, match=r"newest.*\(.*attempt.* of its hook 'after_action' asks for 'attempt'"):
        fitted(function, TODAY, "after_action")


def test_what_is_no_callable_is_refused() -> None:
    with pytest.raises(SignatureRefused, match="gave 7, which is not callable"):
        fitted(7, TODAY, "after_action")


# Through hooks


def plugin(**hooks: Callable[..., Any]) -> SimpleNamespace:
    return SimpleNamespace(**{name: hookimpl(function) for name, function in hooks.items()})


def discovered(**plugins: object) -> Discovery:
    return discover(PluginSettings(autoload=False), extra_plugins=plugins.items())


def test_refused_callable_is_a_fault_of_its_plugin_and_the_others_stay() -> None:
    def after_action() -> Iterable[Any]:
        return [newest, both]

    found = discovered(acme=plugin(after_action=after_action))
    contributions = collect(found, APP)
    assert contributions.after_action == (both,)
    [fault] = found.plugins["acme"].faults
    assert fault.part == "after_action newest"
    assert "newest(call: 'Any', outcome: 'Any', attempt: 'int')" in fault.reason


async def test_collected_callables_go_on_when_their_specification_grows() -> None:
    seen: list[Any] = []

    async def old(call: Any, outcome: Any) -> None:
        seen.append((call, outcome))

    async def new(call: Any, *, attempt: int) -> None:
        seen.append((call, attempt))

    def after_action() -> Iterable[Any]:
        return [old, new]

    grown = {**ARGUMENTS, "after_action": GROWN}
    found: Contributions = collect(discovered(acme=plugin(after_action=after_action)), APP, arguments=grown)
    for step in found.after_action:
        await step("c", "o", attempt=2)  # type: ignore[call-arg,arg-type]  # as tomorrow's host would
    assert seen == [("c", "o"), ("c", 2)]


def test_hooks_go_on_when_their_specification_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    grown = types.ModuleType("grown")
    grown.__dict__.update(vars(host_hooks))

    @hookspec
    def startup(generation: int, reason: str) -> Any:
        """Tomorrow's specification."""

    grown.startup = startup  # type: ignore[attr-defined]  # a specification is a function of its module
    known = tuple(grown if module is host_hooks else module for module in HOOK_SPECIFICATIONS)
    monkeypatch.setattr("base04.discovery.HOOK_SPECIFICATIONS", known)
    got: dict[str, Any] = {}

    def of_today() -> None:
        got["of_today"] = ()

    def of_tomorrow(generation: int) -> None:
        got["of_tomorrow"] = generation

    def with_default(reason: str = "none") -> None:
        got["with_default"] = reason

    def too_much(generation: int, colour: str) -> None:
        got["too_much"] = colour

    names = (of_today, of_tomorrow, with_default, too_much)
    found = discovered(**{function.__name__: plugin(startup=function) for function in names})
    collect(found, APP, further={"generation": 7, "reason": "start"})
    assert got == {"of_today": (), "of_tomorrow": 7, "with_default": "start"}
    assert found.plugins["too_much"].status == "failed"
    assert "startup(generation: 'int', colour: 'str') -> 'None' asks for 'colour'" in found.plugins["too_much"].reason
    assert "'generation', 'reason'" in found.plugins["too_much"].reason


def test_hook_that_asks_for_something_today_is_refused_with_its_signature() -> None:
    def startup(*, colour: Any) -> Any:
        return []

    failed = discovered(acme=plugin(startup=startup)).plugins["acme"]
    assert failed.status == "failed"
    assert "The hook startup(*, colour: 'Any') -> 'Any' asks for 'colour'; the host offers it nothing." in failed.reason
