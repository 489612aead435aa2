"""The pack as the host reads it."""

from __future__ import annotations

import pytest

from base04.testing.conformance.action_discovery import RecordingHost
from base04_builtin.action_discovery.manager import YamlActionDiscoveryManager
from base04_builtin.action_discovery.settings import ActionDiscoverySettings
from base04_hookspecs.app import ActionSource
from base04_hookspecs.errors import InvalidInput

SOURCE: ActionSource = {
    "name": "greetings",
    "package": "base04_greetings",
    "distribution": "base04-greetings",
    "version": "0.1.0",
}


@pytest.fixture
async def manager() -> YamlActionDiscoveryManager:
    host = RecordingHost([SOURCE])
    discovery = YamlActionDiscoveryManager(ActionDiscoverySettings(), host.as_app)
    await discovery.start()
    return discovery


async def test_pack_has_no_faults(manager: YamlActionDiscoveryManager) -> None:
    assert await manager.get_faults() == []
    listing = await manager.list_all_actions()
    assert {name: info["access"] for name, info in listing["actions"].items()} == {
        "greetings.forget": "permissions",
        "greetings.greet": "public",
        "greetings.visit": "authenticated",
    }


async def test_greet_runs_as_described(manager: YamlActionDiscoveryManager) -> None:
    action = manager.catalogue().find("greetings.greet")
    assert action is not None
    result = await action.load_handler()(**action.validate({"name": "Ada"}))
    assert result == {"message": "Hello, Ada!"}
    with pytest.raises(InvalidInput) as caught:
        action.validate({"name": "", "times": 11})
    assert {fault.pointer for fault in caught.value.faults} == {"/name", "/times"}
