"""What every provider of the role ``action_discovery`` does."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from base04.testing.conformance.declared import DeclaredCapabilities
from base04_hookspecs.action_discovery import ActionDiscoveryManager
from base04_hookspecs.app import ActionPackSource, ActionSource, AppManager
from base04_hookspecs.context import Principal
from base04_hookspecs.errors import InvalidInput
from base04_hookspecs.rate_limiter import RateLimit

INFO_KEYS = {
    *("name", "pack", "pack_version", "summary", "description", "module", "handler", "access", "permissions"),
    *("parameters", "returns", "timeout", "rate_limit", "examples", "source"),
}

PACK = """\
pack: conformance
version: 1.2.3
actions:
  greet:
    summary: Greet someone by name
    handler: base04.testing.conformance.action_discovery:greet
    access: public
    parameters:
      name: {type: string, minLength: 1, maxLength: 80}
      times: {type: integer, minimum: 1, maximum: 10, default: 1}
      options:
        type: object
        properties: {mark: {type: string, default: "!"}, "a/b": {type: integer}}
        additionalProperties: false
        default: {}
    required: [name]
    returns: {type: object, properties: {message: {type: string}}, required: [message]}
    timeout: 5s
    rate_limit: [20/minute, 100/hour]
  guarded:
    handler: base04.testing.conformance.action_discovery:guarded
    access: {permissions: [conformance.use]}
"""
"""The pack that the suite is about. A provider that does not read YAML offers the same actions in its own way."""


async def greet(name: str, times: int, options: Mapping[str, str]) -> dict[str, str]:
    """Handle ``conformance.greet``."""
    return {"message": " ".join([f"Hello, {name}{options['mark']}"] * times)}


def guarded() -> None:
    """Handle ``conformance.guarded``."""


class RecordingHost:
    """The host, as far as this role asks it for anything: it notes the actions that it is told to run."""

    def __init__(self, sources: Sequence[ActionSource] = ()) -> None:
        self.sources = list(sources)
        self.packs: list[ActionPackSource] = []
        self.runs: list[tuple[str, dict[str, Any]]] = []

    def list_action_sources(self) -> list[ActionSource]:
        """Return what there is in the entry-point group ``base04.actions``."""
        return self.sources

    def list_action_packs(self) -> list[ActionPackSource]:
        """Return the packs that plugins define."""
        return self.packs

    async def run_action(
        self, name: str, args: Mapping[str, Any] | None = None, *, principal: Principal | None = None
    ) -> Any:
        """Note the run and return a result."""
        self.runs.append((name, dict(args or {})))
        return {"ran": name}

    @property
    def as_app(self) -> AppManager:
        """This object, typed as what a manager's constructor asks for."""
        return cast(AppManager, self)


class ActionDiscoveryConformance(DeclaredCapabilities):
    """Subclass it, give it the fixtures ``host`` (a ``RecordingHost``) and ``manager``.

    The manager is started with that host, and knows exactly the actions of ``PACK``.
    """

    async def test_actions_are_listed_by_full_name(self, manager: ActionDiscoveryManager) -> None:
        listing = await manager.list_all_actions()
        assert list(listing["actions"]) == ["conformance.greet", "conformance.guarded"]
        assert listing["total"] == 2
        assert all(set(info) >= INFO_KEYS for info in listing["actions"].values())

    async def test_action_is_described_as_json(self, manager: ActionDiscoveryManager) -> None:
        info = await manager.find_action("conformance.greet")
        assert info is not None
        assert json.loads(json.dumps(info)) == info
        assert (info["pack"], info["pack_version"], info["summary"]) == (
            "conformance",
            "1.2.3",
            "Greet someone by name",
        )
        assert info["module"] == "base04.testing.conformance.action_discovery"
        assert (info["access"], info["permissions"]) == ("public", [])
        assert (info["timeout"], info["rate_limit"]) == (5.0, ["20/minute", "100/hour"])
        assert info["parameters"]["required"] == ["name"]
        assert set(info["parameters"]["properties"]) == {"name", "times", "options"}
        assert info["parameters"]["additionalProperties"] is False

    async def test_what_is_not_said_has_the_careful_default(self, manager: ActionDiscoveryManager) -> None:
        info = await manager.find_action("guarded")
        assert info is not None
        assert (info["access"], info["permissions"]) == ("permissions", ["conformance.use"])
        assert (info["returns"], info["timeout"], info["rate_limit"]) == (None, None, [])

    async def test_short_name_finds_an_action(self, manager: ActionDiscoveryManager) -> None:
        info = await manager.find_action("greet")
        assert info is not None
        assert info["name"] == "conformance.greet"

    @pytest.mark.parametrize("name", ["", "grete", "conformance", "conformance.", ".greet", "x" * 100_000, "greet\0"])
    async def test_unknown_name_finds_nothing(self, manager: ActionDiscoveryManager, name: str) -> None:
        assert await manager.find_action(name) is None
        assert manager.catalogue().find(name) is None

    async def test_misspelt_name_has_close_matches(self, manager: ActionDiscoveryManager) -> None:
        assert "conformance.greet" in manager.catalogue().close_matches("conformance.gret")
        assert "conformance.greet" in manager.catalogue().close_matches("grete")

    async def test_catalogue_holds_runnable_actions(self, manager: ActionDiscoveryManager) -> None:
        catalogue = manager.catalogue()
        assert [action.name for action in catalogue] == ["conformance.greet", "conformance.guarded"]
        assert len(catalogue) == 2
        action = catalogue.find("conformance.greet")
        assert action is not None
        assert action.limits == (RateLimit(20, 60), RateLimit(100, 3600))
        result = await action.load_handler()(**action.validate({"name": "Ada", "times": 2}))
        assert result == {"message": "Hello, Ada! Hello, Ada!"}
        assert action.check_result is not None
        action.check_result(result)
        with pytest.raises(InvalidInput):
            action.check_result({"message": 5})

    async def test_defaults_are_filled_at_any_depth(self, manager: ActionDiscoveryManager) -> None:
        info = await manager.find_action("greet")
        assert info is not None
        given: dict[str, Any] = {"name": "Ada", "options": {"a/b": 1}}
        before = copy.deepcopy(given)
        filled = await manager.validate_action_args(info, given)
        assert filled == {"name": "Ada", "times": 1, "options": {"a/b": 1, "mark": "!"}}
        assert given == before

    async def test_filled_defaults_are_nobody_elses(self, manager: ActionDiscoveryManager) -> None:
        info = await manager.find_action("greet")
        assert info is not None
        first = await manager.validate_action_args(info, {"name": "Ada"})
        first["options"]["mark"] = "?"
        second = await manager.validate_action_args(info, {"name": "Ada"})
        assert second["options"] == {"mark": "!"}

    async def test_all_faults_of_arguments_are_told_with_their_pointers(self, manager: ActionDiscoveryManager) -> None:
        info = await manager.find_action("greet")
        assert info is not None
        args = {"times": 11, "tims": 1, "options": {"a/b": "x", "mark": 5}}
        with pytest.raises(InvalidInput) as caught:
            await manager.validate_action_args(info, args)
        assert {fault.pointer for fault in caught.value.faults} == {
            *("/name", "/times", "/tims", "/options/a~1b", "/options/mark"),
        }
        assert all(fault.message for fault in caught.value.faults)

    @pytest.mark.parametrize("args", [None, [], "text", 5, {1: 2}, {"name": {1, 2}}, {"name": True}, {"name": b"x"}])
    async def test_arguments_of_the_wrong_shape_are_refused(self, manager: ActionDiscoveryManager, args: Any) -> None:
        info = await manager.find_action("greet")
        assert info is not None
        with pytest.raises(InvalidInput):
            await manager.validate_action_args(info, args)

    async def test_action_runs_through_the_host(self, manager: ActionDiscoveryManager, host: RecordingHost) -> None:
        info = await manager.find_action("greet")
        assert info is not None
        assert await manager.execute_action_logic(info, {"name": "Ada"}) == {"ran": "conformance.greet"}
        assert host.runs == [("conformance.greet", {"name": "Ada"})]

    async def test_discovery_again_finds_the_same(self, manager: ActionDiscoveryManager) -> None:
        before = manager.catalogue()
        report = await manager.discover_all_actions()
        assert report == {"packs": 1, "actions": 2, "faults": []}
        assert [action.name for action in manager.catalogue()] == [action.name for action in before]
        assert await manager.get_faults() == []

    async def test_healthy_without_faults(self, manager: ActionDiscoveryManager) -> None:
        assert (await manager.health_check())["status"] == "healthy"
