"""Whatever a program can ask of the host, one that is not async can ask as well."""

from __future__ import annotations

import inspect
from typing import Any, Final

import pytest

from base04 import AppManager as AsyncAppManager
from base04.blocking import AppManager
from base04_hookspecs import blocking

OF_THE_HOST: Final = {
    "admit": "what a host may become, for the one in several processes",
    "blueprint": "what the host is made from, for its own modules",
    "convergence": "what processes say together, for the host's own routes",
    "discovery": "told by list_plugins, list_action_sources and list_action_packs",
    "generation": "its managers are async: get_manager has them in blocking form",
    "newest": "generations are the host's own affair",
    "plan": "what the host is made from, for its own modules",
    "selection": "what the host is made from, for its own modules",
    "serve": "an ASGI application is async by definition: initialize and run are there",
    "succeeded": "generations are the host's own affair",
    "whole_health": "what processes say together, for the host's own routes",
    "whole_metrics": "what processes say together, for the host's own routes",
}
"""What is left out of the blocking form, and why."""


def members(cls: type) -> dict[str, Any]:
    return {name: inspect.getattr_static(cls, name) for name in dir(cls) if not name.startswith("_")}


SHARED: Final = sorted(members(AsyncAppManager).keys() - OF_THE_HOST.keys())


def test_every_public_member_is_there_or_left_out_for_a_reason() -> None:
    assert members(AppManager).keys() == set(SHARED)
    assert OF_THE_HOST.keys() <= members(AsyncAppManager).keys()
    assert all(OF_THE_HOST.values())


@pytest.mark.parametrize("name", SHARED)
def test_member_has_the_same_signature_without_async(name: str) -> None:
    theirs, ours = members(AsyncAppManager)[name], members(AppManager)[name]
    assert isinstance(ours, property) is isinstance(theirs, property)
    if isinstance(ours, property):
        theirs, ours = theirs.fget, ours.fget
    assert not inspect.iscoroutinefunction(ours)
    assert ours.__doc__
    wanted, given = inspect.signature(theirs), inspect.signature(ours)
    assert given.parameters == wanted.parameters
    if name != "get_manager":  # its blocking form has as many types as there are roles
        assert str(given.return_annotation).removeprefix("contracts.") == str(wanted.return_annotation)


def test_accessor_returns_the_blocking_namesake_of_a_contract() -> None:
    for name in SHARED:
        ours = members(AppManager)[name]
        function: Any = ours.fget if isinstance(ours, property) else ours
        returned = str(inspect.signature(function).return_annotation)
        if returned.endswith("Manager"):
            assert returned.startswith("contracts."), name
            assert hasattr(blocking, returned.removeprefix("contracts."))


def test_constructors_and_blocks_are_alike() -> None:
    assert inspect.signature(AppManager.__init__) == inspect.signature(AsyncAppManager.__init__)
    assert hasattr(AppManager, "__enter__")
    assert hasattr(AppManager, "__exit__")


def test_settings_and_version_are_those_of_the_host(blocking_app: AppManager) -> None:
    assert blocking_app.settings.server.port == 8000
    assert blocking_app.version.count(".") == 2
