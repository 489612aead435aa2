"""Where actions come from beside files that lie still: folders that change, plugins, and what operators override."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from base04.testing.conformance.action_discovery import RecordingHost
from base04_builtin.action_discovery.manager import YamlActionDiscoveryManager
from base04_builtin.action_discovery.settings import ActionDiscoverySettings
from base04_hookspecs.action_discovery import CONCEALED, Action
from base04_hookspecs.rate_limiter import RateLimit

PATIENCE_S = 20.0


def pack(name: str, action: str = "run", handler: str = ".handlers:run") -> str:
    return f"pack: {name}\nversion: 1.0.0\nactions:\n  {action}: {{handler: '{handler}'}}\n"


@pytest.fixture
def host() -> RecordingHost:
    return RecordingHost()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "handlers.py").write_text("async def run(value=None): return 'first'\n")
    return tmp_path


@pytest.fixture
async def watching(host: RecordingHost, folder: Path) -> AsyncIterator[YamlActionDiscoveryManager]:
    (folder / "one.yaml").write_text(pack("one"))
    manager = YamlActionDiscoveryManager(ActionDiscoverySettings(folders=(folder,)), host.as_app)
    await manager.start()
    yield manager
    await manager.stop()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.01)


def names(manager: YamlActionDiscoveryManager) -> list[str]:
    return [action.name for action in manager.catalogue()]


def found(manager: YamlActionDiscoveryManager, name: str) -> Action:
    action = manager.catalogue().find(name)
    assert action is not None
    return action


async def test_saved_file_is_live_without_a_restart(watching: YamlActionDiscoveryManager, folder: Path) -> None:
    untouched = found(watching, "one.run")
    (folder / "two.yml").write_text(pack("two"))
    await until(lambda: names(watching) == ["one.run", "two.run"])
    assert found(watching, "one.run") is untouched
    (folder / "two.yml").unlink()
    await until(lambda: names(watching) == ["one.run"])


async def test_saved_module_beside_is_live_with_the_file(watching: YamlActionDiscoveryManager, folder: Path) -> None:
    before = found(watching, "one.run").load_handler()
    (folder / "handlers.py").write_text("async def run(value=None): return 'other'\nasync def more(): return 'more'\n")
    (folder / "one.yaml").write_text(pack("one", "more", ".handlers:more"))
    await until(lambda: names(watching) == ["one.more"])
    assert await found(watching, "one.more").load_handler()() == "more"
    assert await before() == "first"


async def test_saved_module_alone_is_live(watching: YamlActionDiscoveryManager, folder: Path) -> None:
    before = found(watching, "one.run")
    (folder / "handlers.py").write_text("async def run(value=None): return 'again'\n")
    await until(lambda: found(watching, "one.run") is not before)
    assert await found(watching, "one.run").load_handler()() == "again"


@pytest.mark.parametrize("fault", ["pack: [", pack("one", handler=".handlers:gone")])
async def test_faulty_file_leaves_the_last_good_version_running_and_says_so(
    watching: YamlActionDiscoveryManager, folder: Path, fault: str
) -> None:
    good = found(watching, "one.run")
    with capture_logs() as logs:
        (folder / "one.yaml").write_text(fault)
        await until(lambda: any(entry["event"] == "action folders were read anew" for entry in logs))
    assert found(watching, "one.run") is good
    assert [entry["file"] for entry in logs if "file" in entry] == [str(folder / "one.yaml")]
    assert logs[-1]["last_good_version"] == ["one"]
    health = await watching.health_check()
    assert health["status"] == "degraded"
    assert "running in their last good version: one" in health["details"]
    (folder / "one.yaml").write_text(pack("one"))
    await until(lambda: found(watching, "one.run") is not good)
    assert (await watching.health_check())["status"] == "healthy"


async def test_faulty_module_leaves_the_last_good_version_running(
    watching: YamlActionDiscoveryManager, folder: Path
) -> None:
    with capture_logs() as logs:
        (folder / "handlers.py").write_text("def run(:\n")
        await until(lambda: any(entry["event"] == "action folders were read anew" for entry in logs))
    assert await found(watching, "one.run").load_handler()() == "first"
    [fault] = await watching.get_faults()
    assert "fails when it is imported: SyntaxError" in fault["message"]


async def test_folder_that_appears_later_is_read(host: RecordingHost, tmp_path: Path) -> None:
    later = tmp_path / "later"
    manager = YamlActionDiscoveryManager(ActionDiscoverySettings(folders=(later,)), host.as_app)
    await manager.start()
    try:
        assert names(manager) == []
        later.mkdir()
        (later / "handlers.py").write_text("async def run(): ...\n")
        (later / "one.yaml").write_text(pack("one"))
        await until(lambda: names(manager) == ["one.run"])
        assert await manager.get_faults() == []
    finally:
        await manager.stop()


def still(host: RecordingHost, *folders: Path, **overrides: Any) -> YamlActionDiscoveryManager:
    settings = ActionDiscoverySettings.model_validate(
        {"folders": folders, "watch": False, "overrides": {name.replace("__", "."): o for name, o in overrides.items()}}
    )
    return YamlActionDiscoveryManager(settings, host.as_app)


async def greet(name: str, times: int = 1) -> str:
    return " ".join([f"Hello, {name}!"] * times)


DEFINITION: dict[str, Any] = {
    "pack": "made",
    "version": "1.0.0",
    "actions": {
        "greet": {
            "handler": greet,
            "access": "public",
            "parameters": {"name": {"type": "string"}},
            "required": ["name"],
        }
    },
}


async def test_plugin_defines_a_pack_in_python(host: RecordingHost) -> None:
    host.packs.append({"plugin": "acme", "definition": DEFINITION})
    manager = still(host)
    assert await manager.discover_all_actions() == {"packs": 1, "actions": 1, "faults": []}
    action = found(manager, "made.greet")
    assert await action.load_handler()(**action.validate({"name": "Ada"})) == "Hello, Ada!"
    assert (action.info["source"], action.info["module"]) == ("plugin 'acme'", __name__)
    assert action.info["handler"] == f"{__name__}:greet"
    assert (await manager.list_packs())["made"]["actions"] == ["made.greet"]
    assert action.conceal is None


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ({**DEFINITION, "autors": []}, "/autors: The key 'autors' is not known; did you mean 'authors'?"),
        ({**DEFINITION, "actions": {"a": {"handler": 5}}}, "/actions/a/handler: The handler 5 cannot be read"),
        ({**DEFINITION, "actions": {"a": {"handler": ".x:y"}}}, "beside no file: give the function itself."),
        ({**DEFINITION, "actions": {"a": {"handler": greet}}}, "has a parameter 'name' without a default"),
        ({**DEFINITION, "version": object()}, "/version: 'object' is neither JSON nor a function"),
        ({**DEFINITION, "summary": float("nan")}, "/summary: The number nan is not JSON."),
        ({5: 1}, "A key must be a string, not 5."),
        ([], "A definition is a mapping"),
    ],
)
async def test_fault_of_a_defined_pack_names_the_plugin_and_takes_no_other_down(
    host: RecordingHost, folder: Path, definition: Any, message: str
) -> None:
    (folder / "one.yaml").write_text(pack("one"))
    host.packs.append({"plugin": "acme", "definition": definition})
    manager = still(host, folder)
    report = await manager.discover_all_actions()
    assert names(manager) == ["one.run"]
    [fault] = report["faults"]
    assert (fault["file"], fault["line"], fault["column"]) == ("plugin 'acme'", 1, 1)
    assert message in fault["message"]


async def test_definition_that_has_itself_within_it_is_refused(host: RecordingHost) -> None:
    definition: dict[str, Any] = {"pack": "p"}
    definition["actions"] = definition
    host.packs.append({"plugin": "acme", "definition": definition})
    [fault] = (await still(host).discover_all_actions())["faults"]
    assert "nested more than 64 deep" in fault["message"]


async def test_pack_of_a_plugin_and_one_of_a_file_with_one_name_name_each_other(
    host: RecordingHost, folder: Path
) -> None:
    (folder / "one.yaml").write_text(pack("made"))
    host.packs.append({"plugin": "acme", "definition": DEFINITION})
    faults = (await still(host, folder).discover_all_actions())["faults"]
    assert {fault["file"] for fault in faults} == {"plugin 'acme'", str(folder / "one.yaml")}


async def test_operator_switches_an_action_off(host: RecordingHost, folder: Path) -> None:
    (folder / "one.yaml").write_text(pack("one") + "  kept: {handler: '.handlers:run'}\n")
    manager = still(host, folder, one__run={"enabled": False})
    assert await manager.discover_all_actions() == {"packs": 1, "actions": 1, "faults": []}
    assert names(manager) == ["one.kept"]
    assert (await manager.list_packs())["one"]["actions"] == ["one.run", "one.kept"]


async def test_operator_tightens_access_and_sets_timeout_and_limits(host: RecordingHost, folder: Path) -> None:
    (folder / "one.yaml").write_text(
        "pack: one\nversion: 1.0.0\nactions:\n"
        "  open: {handler: '.handlers:run', access: public, timeout: 5s, rate_limit: 20/minute}\n"
        "  shut: {handler: '.handlers:run', access: {permissions: [one.use]}}\n"
    )
    overrides: dict[str, Any] = {
        "one__*": {"access": "authenticated", "timeout": "2s"},
        "one__shut": {"access": {"permissions": ["one.use", "one.more"]}, "timeout": "1m", "rate_limit": "1/second"},
    }
    manager = still(host, folder, **overrides)
    await manager.discover_all_actions()
    opened, shut = found(manager, "one.open"), found(manager, "one.shut")
    assert (opened.info["access"], opened.info["timeout"], opened.info["rate_limit"]) == (
        "authenticated",
        2.0,
        ["20/minute"],
    )
    assert (shut.info["access"], shut.info["permissions"]) == ("permissions", ["one.use", "one.more"])
    assert (shut.info["timeout"], shut.limits) == (60.0, (RateLimit(1, 1),))


async def test_override_of_an_action_that_is_not_there_is_a_fault(host: RecordingHost, folder: Path) -> None:
    (folder / "one.yaml").write_text(pack("one"))
    overrides: dict[str, Any] = {"one__rum": {"enabled": False}}
    [fault] = (await still(host, folder, **overrides).discover_all_actions())["faults"]
    assert fault["file"] == "managers.action_discovery.overrides"
    assert fault["message"] == "There is no action 'one.rum', for which there are settings; did you mean 'one.run'?"


@pytest.mark.parametrize(
    "override",
    [
        {"run": {}},
        {"one.run": {"access": "public"}},
        {"one.run": {"access": {"permissions": []}}},
        {"one.run": {"access": {"permissions": ["a b"]}}},
        {"one.run": {"rate_limit": "often"}},
        {"one.run": {"timeout": 0}},
        {"one.run": {"enable": False}},
    ],
)
def test_override_that_cannot_be_meant_is_refused(override: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ActionDiscoverySettings.model_validate({"overrides": override})


SECRETS = """
pack: p
version: 1.0.0
$defs:
  login: {type: object, properties: {user: {type: string}, password: {type: string, secret: true}}}
actions:
  run:
    handler: .handlers:run
    parameters:
      value:
        type: object
        properties:
          logins: {type: array, items: {$ref: '#/$defs/login'}}
          pair: {prefixItems: [{type: string}, {secret: true}]}
          tree: {$ref: '#/$defs/tree'}
        patternProperties: {'_token$': {type: string, secret: true}}
        additionalProperties: {anyOf: [{type: integer}, {type: object, secret: true}]}
    returns: {type: object, additionalProperties: {type: string, secret: true}}
    $defs:
      tree: {type: object, properties: {key: {secret: true}, children: {type: array, items: {$ref: '#/$defs/tree'}}}}
"""


async def test_secrets_are_concealed_wherever_they_sit(host: RecordingHost, folder: Path) -> None:
    (folder / "p.yaml").write_text(SECRETS)
    manager = still(host, folder)
    assert (await manager.discover_all_actions())["faults"] == []
    action = found(manager, "p.run")
    assert action.conceal is not None
    assert action.conceal_result is not None
    value = {
        "logins": [{"user": "ada", "password": "one"}, {"user": "bob", "password": ["wrong", "type"]}],
        "pair": ["open", "shut"],
        "tree": {"key": "a", "children": [{"key": "b", "children": []}, {"name": "c"}]},
        "api_token": "x",
        "other": {"deep": "y"},
    }
    given = {"value": value}
    assert action.conceal(given) == {
        "value": {
            "logins": [{"user": "ada", "password": CONCEALED}, {"user": "bob", "password": CONCEALED}],
            "pair": ["open", CONCEALED],
            "tree": {"key": CONCEALED, "children": [{"key": CONCEALED, "children": []}, {"name": "c"}]},
            "api_token": CONCEALED,
            "other": CONCEALED,
        }
    }
    assert given["value"]["logins"] == value["logins"]
    assert action.conceal("no object at all") == "no object at all"
    assert action.conceal_result({"token": "t"}) == {"token": CONCEALED}
