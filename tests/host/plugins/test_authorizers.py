"""What plugins decide on rooms, whatever they raise."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from base04.discovery import discover
from base04.plugins.authorizers import guarded
from base04.plugins.contributions import collect
from base04.plugins.signatures import is_async
from base04.settings import PluginSettings
from base04_hookspecs import ANONYMOUS, hookimpl

APP: Any = SimpleNamespace(name="the host")


class Doom(BaseException):
    pass


def collected(*authorizers: Any) -> tuple[Any, Any]:
    @hookimpl
    def authorize_room() -> list[Any]:
        return list(authorizers)

    plugins = [("acme", SimpleNamespace(authorize_room=authorize_room))]
    discovery = discover(PluginSettings(autoload=False), extra_plugins=plugins)
    return guarded(collect(discovery, APP)), discovery.plugins["acme"]


async def test_decisions_are_passed_on_by_functions_of_the_same_kind() -> None:
    async def later(principal: Any, room: str, operation: str) -> bool:
        return room == "open"

    def at_once(principal: Any, room: str) -> bool | None:
        return None

    (first, second), _ = collected(later, at_once)
    assert (is_async(first), is_async(second)) == (True, False)
    assert await first(ANONYMOUS, "open", "join") is True
    assert second(ANONYMOUS, "open", "join") is None


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), Doom("no"), KeyboardInterrupt()])
async def test_what_is_raised_is_a_fault_and_comes_out_as_an_exception(error: BaseException) -> None:
    async def later(principal: Any, room: str, operation: str) -> bool:
        raise error

    def at_once(principal: Any, room: str, operation: str) -> bool:
        raise error

    (first, second), plugin = collected(later, at_once)
    with pytest.raises(Exception, match=type(error).__name__ if not isinstance(error, Exception) else "no"):
        await first(ANONYMOUS, "open", "join")
    with pytest.raises(Exception, match=type(error).__name__ if not isinstance(error, Exception) else "no"):
        second(ANONYMOUS, "open", "join")
    assert len(plugin.faults.parts) == 2
    assert all(fault.part.startswith("authorize_room ") for fault in plugin.faults)
