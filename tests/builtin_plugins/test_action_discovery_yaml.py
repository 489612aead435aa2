# ruff: noqa: E501 - tables of one-line cases read best as such
from __future__ import annotations

import sys
from pathlib import Path

import orjson
import pytest
from structlog.testing import capture_logs

from base04.testing.conformance.action_discovery import PACK, ActionDiscoveryConformance, RecordingHost
from base04_builtin.action_discovery.manager import YamlActionDiscoveryManager
from base04_builtin.action_discovery.settings import ActionDiscoverySettings
from base04_hookspecs.app import ActionSource
from base04_hookspecs.errors import InvalidInput, UnknownAction

HANDLERS = """
async def run(value=None): return value
async def anything(**values): return values
"""


def pack(name: str, *actions: str, handler: str = ".handlers:run") -> str:
    lines = [f"pack: {name}", "version: 1.0.0", "actions:"]
    return "\n".join([*lines, *(f"  {action}: {{handler: '{handler}'}}" for action in actions or ("run",))]) + "\n"


@pytest.fixture
def host() -> RecordingHost:
    return RecordingHost()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "handlers.py").write_text(HANDLERS)
    return tmp_path


def discovery(host: RecordingHost, *folders: Path) -> YamlActionDiscoveryManager:
    return YamlActionDiscoveryManager(ActionDiscoverySettings(folders=folders, watch=False), host.as_app)


def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, **files: str) -> ActionSource:
    """Put a package where it can be imported, and return the entry point that names it."""
    folder = tmp_path / "installed" / package
    folder.mkdir(parents=True)
    for name, content in {"__init__.py": "", "handlers.py": HANDLERS, **files}.items():
        (folder / name).write_text(content)
    monkeypatch.syspath_prepend(tmp_path / "installed")
    return {"name": package, "package": package, "distribution": f"dist-{package}", "version": "1.0"}


class TestConformance(ActionDiscoveryConformance):
    @pytest.fixture
    async def manager(self, host: RecordingHost, tmp_path: Path) -> YamlActionDiscoveryManager:
        (tmp_path / "pack.yaml").write_text(PACK)
        manager = discovery(host, tmp_path)
        await manager.start()
        return manager


async def test_packages_and_folders_are_read(
    host: RecordingHost, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"one.yaml": pack("one", "a", "b"), "two.yml": pack("two"), "notes.txt": "no pack", ".x.yaml": "no"}
    host.sources.append(installed(tmp_path, monkeypatch, "b04test_read", **files))
    (folder / "three.yaml").write_text(pack("three"))
    manager = discovery(host, folder)
    assert await manager.discover_all_actions() == {"packs": 3, "actions": 4, "faults": []}
    listing = await manager.list_all_actions()
    assert list(listing["actions"]) == ["one.a", "one.b", "three.run", "two.run"]
    assert listing["actions"]["one.a"]["module"] == "b04test_read.handlers"
    assert listing["actions"]["three.run"]["source"] == f"{folder / 'three.yaml'}:4"


async def test_finding_files_imports_no_handler_of_a_broken_file(
    host: RecordingHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.sources.append(
        installed(tmp_path, monkeypatch, "b04test_lazy", **{"one.yaml": "pack: [", "handlers.py": "1/0"})
    )
    report = await discovery(host).discover_all_actions()
    assert len(report["faults"]) == 1
    assert "b04test_lazy" not in sys.modules


async def test_file_that_is_found_twice_counts_once(
    host: RecordingHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = installed(tmp_path, monkeypatch, "b04test_twice", **{"one.yaml": pack("one")})
    host.sources += [source, {**source, "name": "again"}]
    manager = discovery(host, tmp_path / "installed" / "b04test_twice")
    assert await manager.discover_all_actions() == {"packs": 1, "actions": 1, "faults": []}


async def test_relative_folder_lies_where_the_host_was_started(
    host: RecordingHost, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "one.yaml").write_text(pack("one"))
    monkeypatch.chdir(folder.parent)
    manager = discovery(host, Path(folder.name))
    monkeypatch.chdir("/")
    assert (await manager.discover_all_actions())["actions"] == 1


@pytest.mark.parametrize(
    ("package", "message"),
    [
        ("b04test_nowhere", "There is no package 'b04test_nowhere'"),
        ("b04test_nowhere.inner", "cannot be found: No module named 'b04test_nowhere'"),
        ("json.tool", "There is no package 'json.tool'"),
        ("json", "holds no action files"),
    ],
)
async def test_source_without_actions_is_a_fault_that_names_it(
    host: RecordingHost, folder: Path, package: str, message: str
) -> None:
    host.sources.append({"name": "mine", "package": package, "distribution": "acme", "version": "1"})
    (folder / "one.yaml").write_text(pack("one"))
    report = await discovery(host, folder).discover_all_actions()
    [fault] = report["faults"]
    assert fault["file"] == package
    assert message in fault["message"]
    assert "entry point 'mine' of acme" in fault["message"]
    assert report["actions"] == 1


async def test_folder_that_is_not_there_is_a_fault(host: RecordingHost, tmp_path: Path) -> None:
    report = await discovery(host, tmp_path / "no").discover_all_actions()
    assert [fault["message"] for fault in report["faults"]] == [
        f"The folder '{tmp_path / 'no'}' cannot be read: No such file or directory."
    ]


async def test_broken_pack_takes_no_other_down(host: RecordingHost, folder: Path) -> None:
    (folder / "bad.yaml").write_text(pack("bad", "a") + "  b: {handler: '.handlers:gone'}\n")
    (folder / "good.yaml").write_text(pack("good"))
    manager = discovery(host, folder)
    with capture_logs() as logs:
        await manager.start()
    assert list((await manager.list_all_actions())["actions"]) == ["good.run"]
    [fault] = await manager.get_faults()
    assert (fault["file"], fault["line"], fault["column"]) == (str(folder / "bad.yaml"), 5, 16)
    assert [entry["line"] for entry in logs] == [5]
    health = await manager.health_check()
    assert health["status"] == "degraded"
    assert f"{folder / 'bad.yaml'}:5" in health["details"]


async def test_pack_with_a_fault_keeps_its_last_good_version(host: RecordingHost, folder: Path) -> None:
    file = folder / "one.yaml"
    file.write_text(pack("one", "a"))
    manager = discovery(host, folder)
    await manager.start()
    first = manager.catalogue()
    file.write_text("pack: one\nversion: [")
    report = await manager.discover_all_actions()
    assert (report["packs"], len(report["faults"])) == (1, 1)
    assert manager.catalogue().find("one.a") is first.find("one.a")
    file.write_text(pack("one", "b"))
    assert (await manager.discover_all_actions())["faults"] == []
    assert [action.name for action in manager.catalogue()] == ["one.b"]
    assert [action.name for action in first] == ["one.a"]
    file.unlink()
    assert await manager.discover_all_actions() == {"packs": 0, "actions": 0, "faults": []}


async def test_two_packs_with_one_name_name_each_other_and_neither_answers(host: RecordingHost, folder: Path) -> None:
    one, two = folder / "one.yaml", folder / "two.yaml"
    one.write_text(pack("same", "a"))
    two.write_text("# a comment\n" + pack("same", "b"))
    manager = discovery(host, folder)
    report = await manager.discover_all_actions()
    assert [(fault["file"], fault["line"], fault["column"], fault["message"]) for fault in report["faults"]] == [
        (str(one), 1, 7, f"The pack 'same' is also defined in {two}: give one another name."),
        (str(two), 2, 7, f"The pack 'same' is also defined in {one}: give one another name."),
    ]
    assert len(manager.catalogue()) == 0


async def test_pack_that_was_there_first_goes_on_when_another_takes_its_name(host: RecordingHost, folder: Path) -> None:
    (folder / "b.yaml").write_text(pack("same", "b"))
    manager = discovery(host, folder)
    await manager.start()
    (folder / "a.yaml").write_text(pack("same", "a"))
    assert len((await manager.discover_all_actions())["faults"]) == 2
    assert [action.name for action in manager.catalogue()] == ["same.b"]


async def test_last_good_version_yields_its_name_to_a_good_pack(host: RecordingHost, folder: Path) -> None:
    (folder / "a.yaml").write_text(pack("same", "a"))
    manager = discovery(host, folder)
    await manager.start()
    (folder / "a.yaml").write_text("pack: [")
    (folder / "b.yaml").write_text(pack("same", "b"))
    await manager.discover_all_actions()
    assert [action.name for action in manager.catalogue()] == ["same.b"]


async def test_short_name_that_two_packs_share_is_ambiguous(host: RecordingHost, folder: Path) -> None:
    (folder / "a.yaml").write_text(pack("a", "run", "only"))
    (folder / "b.yaml").write_text(pack("b", "run"))
    manager = discovery(host, folder)
    await manager.start()
    assert await manager.find_action("run") is None
    assert manager.catalogue().close_matches("run") == ["a.run", "b.run"]
    only = await manager.find_action("only")
    assert only is not None
    assert only["name"] == "a.only"


async def test_handlers_of_one_name_in_two_folders_are_apart(host: RecordingHost, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "handlers.py").write_text(f"async def run(value=None): return {name!r}\n")
        (tmp_path / name / "pack.yaml").write_text(pack(name))
    manager = discovery(host, tmp_path / "a", tmp_path / "b")
    await manager.start()
    results = [await action.load_handler()() for action in manager.catalogue()]
    assert results == ["a", "b"]


async def test_arguments_of_an_action_that_is_gone_are_refused(host: RecordingHost, folder: Path) -> None:
    (folder / "a.yaml").write_text(pack("a"))
    manager = discovery(host, folder)
    await manager.start()
    info = await manager.find_action("a.run")
    assert info is not None
    (folder / "a.yaml").write_text(pack("a", "runs"))
    await manager.discover_all_actions()
    with pytest.raises(UnknownAction) as caught:
        await manager.validate_action_args(info, {})
    assert caught.value.matches == ("a.runs",)


async def test_what_is_handed_out_cannot_spoil_what_is_known(host: RecordingHost, folder: Path) -> None:
    (folder / "bad.yaml").write_text("pack: [")
    (folder / "a.yaml").write_text(pack("a"))
    manager = discovery(host, folder)
    await manager.start()
    info = await manager.find_action("a.run")
    assert info is not None
    info["access"] = "public"
    (await manager.get_faults())[0]["message"] = "spoilt"
    (await manager.list_all_actions())["actions"].clear()
    again = await manager.find_action("a.run")
    assert again is not None
    assert again["access"] == "authenticated"
    assert (await manager.get_faults())[0]["message"] != "spoilt"


@pytest.mark.parametrize(
    ("parameters", "given", "filled"),
    [
        ("n: {type: integer}", {"n": 3.0}, {"n": 3}),
        ("n: {type: number}", {"n": 3.0}, {"n": 3.0}),
        ("n: {type: [integer, 'null']}", {"n": None}, {"n": None}),
        ("l: {type: array, items: {type: object, properties: {x: {default: 1}}}}", {"l": [{}, {"x": 2}]}, {"l": [{"x": 1}, {"x": 2}]}),
        ("o: {anyOf: [{type: 'null'}, {type: object, properties: {x: {default: 1}}}]}", {"o": {}}, {"o": {"x": 1}}),
        ("o: {anyOf: [{type: 'null'}, {type: object, properties: {x: {default: 1}}}]}", {"o": None}, {"o": None}),
        ("o: {type: object, additionalProperties: {type: integer}}", {"o": {"a": 1.0}}, {"o": {"a": 1}}),
        ("p: {prefixItems: [{type: integer}, {type: object, properties: {x: {default: []}}}]}", {"p": [1.0, {}]}, {"p": [1, {"x": []}]}),
        ("o: {allOf: [{properties: {x: {default: 1}}}, {properties: {y: {default: 2}}}]}", {"o": {}}, {"o": {"x": 1, "y": 2}}),
        ("o: {$ref: '#/$defs/tree'}", {"o": {"children": [{}]}}, {"o": {"label": "", "children": [{"label": "", "children": []}]}}),
        ("o: {$ref: '#/$defs/named'}", {}, {"o": {"x": 5}}),
    ],
)  # fmt: skip
async def test_defaults_are_filled_through_every_kind_of_schema(
    host: RecordingHost, folder: Path, parameters: str, given: dict[str, object], filled: dict[str, object]
) -> None:
    (folder / "a.yaml").write_text(
        "pack: a\nversion: 1.0.0\nactions:\n  run:\n    handler: '.handlers:anything'\n    parameters:\n"
        f"      {parameters}\n"
        "    $defs:\n"
        "      tree: {type: object, properties: {label: {default: ''}, children: {default: [], type: array, items: {$ref: '#/$defs/tree'}}}}\n"
        "      named: {type: object, properties: {x: {default: 5}}, required: [x], default: {}}\n"
    )
    manager = discovery(host, folder)
    assert (await manager.discover_all_actions())["faults"] == []
    action = manager.catalogue().find("a.run")
    assert action is not None
    result = action.validate(given)
    assert result == filled
    assert [type(value) for value in result.values()] == [type(value) for value in filled.values()]


async def test_arguments_nested_without_measure_are_refused(host: RecordingHost, folder: Path) -> None:
    (folder / "a.yaml").write_text(
        "pack: a\nversion: 1.0.0\nactions:\n  run:\n    handler: '.handlers:anything'\n"
        "    parameters: {o: {$ref: '#/$defs/n'}}\n    $defs: {n: {properties: {n: {$ref: '#/$defs/n'}, x: {default: 1}}}}\n"
    )
    manager = discovery(host, folder)
    await manager.start()
    action = manager.catalogue().find("a.run")
    assert action is not None
    deep: dict[str, object] = {}
    for _ in range(50_000):
        deep = {"n": deep}
    with pytest.raises(InvalidInput, match="nested too deeply"):
        action.validate({"o": deep})
    while deep:  # taken apart step by step: to free it at once would recurse as deeply
        deep = deep.pop("n")  # type: ignore[assignment]


async def test_formats_are_enforced_and_faults_bounded(host: RecordingHost, folder: Path) -> None:
    (folder / "a.yaml").write_text(
        "pack: a\nversion: 1.0.0\nactions:\n  run:\n    handler: '.handlers:anything'\n"
        "    parameters: {mail: {format: email}, ids: {type: array, items: {format: uuid}}}\n"
    )
    manager = discovery(host, folder)
    await manager.start()
    action = manager.catalogue().find("a.run")
    assert action is not None
    with pytest.raises(InvalidInput) as caught:
        action.validate({"mail": "nobody", "ids": ["x"] * 1000})
    assert len(caught.value.faults) == 100
    assert caught.value.faults[0].pointer in ("/mail", "/ids/0")
    secret = "hunter2-hunter2"
    with pytest.raises(InvalidInput) as caught:
        action.validate({"mail": secret})
    assert secret not in str(caught.value) + repr(caught.value.faults)


@pytest.mark.parametrize("where", ["n: {type: integer}", "l: {type: array, items: {type: integer}}"])
async def test_integer_that_was_not_read_exactly_is_refused(host: RecordingHost, folder: Path, where: str) -> None:
    (folder / "a.yaml").write_text(
        "pack: a\nversion: 1.0.0\nactions:\n  run:\n    handler: '.handlers:anything'\n"
        f"    parameters:\n      {where}\n"
    )
    manager = discovery(host, folder)
    await manager.start()
    action = manager.catalogue().find("a.run")
    assert action is not None
    large = orjson.loads("5097586379159900087510498010988544001")
    with pytest.raises(InvalidInput, match="more than the 64 bits that are read exactly"):
        action.validate({"n": large} if where.startswith("n") else {"l": [1, large]})
    assert action.validate({"n": 2**70} if where.startswith("n") else {"l": [2**70]})
