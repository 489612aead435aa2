from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel

from base04.constructor import Constructor, inspect_constructor, load_class
from base04.errors import ResolutionError
from base04.plugins.plugin import Candidate, Plugin
from base04.selection import InstanceKey
from base04_hookspecs import Manager, Provider, Use
from base04_hookspecs.app import AppManager
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.redis import RedisManager
from base04_hookspecs.vault import VaultManager
from host_kit import Plain, write_module

if TYPE_CHECKING:
    from base04_hookspecs.state import StateManager


class Settings(BaseModel):
    size: int = 1


class Lamp(Plain):
    role = "lamp"


def candidate(implementation: type[Manager] | str = Lamp, **provider: Any) -> Candidate:
    plugin = Plugin("acme", "installed", "acme", "acme-dist", "1.0")
    return Candidate("lamp", Provider("bright", implementation, **provider), plugin)


def inspected(cls: type[Manager]) -> Constructor:
    return inspect_constructor(cls, candidate(cls))


def refusal(cls: type[Manager]) -> str:
    with pytest.raises(ResolutionError) as refused:
        inspected(cls)
    told = str(refused.value)
    assert cls.__qualname__ in told
    assert "bright of plugin acme (acme-dist 1.0)" in told
    return told


def test_constructor_says_what_it_needs() -> None:
    class Needy(Lamp):
        def __init__(
            self,
            options: Settings,
            database: DatabaseManager,
            cache: RedisManager | None,
            reports: Annotated[DatabaseManager, Use("reports", access="read_only")],
            maybe: Annotated[DatabaseManager | None, Use("other")],
            host: AppManager,
            size: int = 7,
            *args: Any,
            vault: VaultManager,
            **others: Any,
        ) -> None: ...

    found = inspected(Needy)
    assert (found.settings_parameter, found.settings_model, found.app_parameter) == ("options", Settings, "host")
    assert [(item.parameter, str(item.key), item.use.access, item.optional) for item in found.dependencies] == [
        ("database", "database", None, False),
        ("cache", "redis", None, True),
        ("reports", "database/reports", "read_only", False),
        ("maybe", "database/other", None, True),
        ("vault", "vault", None, False),
    ]


def test_constructor_may_be_inherited_or_absent() -> None:
    class Base(Lamp):
        def __init__(self, vault: VaultManager) -> None: ...

    class Derived(Base):
        pass

    assert [str(item.key) for item in inspected(Derived).dependencies] == ["vault"]
    assert inspected(Lamp).dependencies == ()


def test_constructor_with_a_contract_of_a_plugin_depends_on_its_role() -> None:
    class Needy(Lamp):
        def __init__(self, other: Lamp) -> None: ...

    Needy.__init__.__annotations__["other"] = Lamp
    [dependency] = inspected(Needy).dependencies
    assert dependency.key == InstanceKey("lamp")


class NeedsNumber(Lamp):
    def __init__(self, number: int) -> None: ...


class NeedsSomething(Lamp):
    def __init__(self, something) -> None: ...  # type: ignore[no-untyped-def]  # people forget it


class NeedsAnyManager(Lamp):
    def __init__(self, manager: Manager) -> None: ...


class NeedsOneOfTwo(Lamp):
    def __init__(self, either: RedisManager | DatabaseManager) -> None: ...


@pytest.mark.parametrize(
    ("cls", "told"),
    [
        (NeedsNumber, "the parameter 'number' with the annotation int"),
        (NeedsSomething, "the parameter 'something' with the annotation nothing"),
        (NeedsAnyManager, "the parameter 'manager' with the annotation Manager"),
        (NeedsOneOfTwo, "the parameter 'either' with the annotation"),
    ],
)
def test_constructor_with_a_parameter_that_nobody_can_give_is_refused(cls: type[Manager], told: str) -> None:
    refused = refusal(cls)
    assert told in refused
    assert "annotate it with a contract from base04_hookspecs" in refused


def test_constructor_has_one_settings_model() -> None:
    class Two(Lamp):
        def __init__(self, one: Settings, two: Settings) -> None: ...

    assert "several settings models ('one', 'two')" in refusal(Two)


class TypeCheckingImport(Lamp):
    def __init__(self, state: StateManager | None) -> None: ...


class BrokenAnnotation(Lamp):
    def __init__(self, state: sys.no_such_thing) -> None: ...  # type: ignore[name-defined]  # it is broken on purpose


def test_constructor_annotated_with_a_type_checking_import_names_the_import_to_move() -> None:
    told = refusal(TypeCheckingImport)
    assert "'StateManager'" in told
    assert f"{__name__!r}" in told
    assert "out of `if TYPE_CHECKING:`" in told


def test_constructor_annotated_with_what_does_not_exist_is_refused() -> None:
    assert "no_such_thing" in refusal(BrokenAnnotation)


def test_load_class_takes_classes_and_strings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source = "from host_kit import Plain\nclass Box:\n    class Lamp(Plain):\n        role = 'lamp'\n"
    write_module(tmp_path, "load_nested", source)
    assert load_class(candidate(Lamp)) is Lamp
    assert load_class(candidate("load_nested:Box.Lamp")).__qualname__ == "Box.Lamp"


MODULES = {
    "load_missing": ("import no_such_library", "No module named 'no_such_library'"),
    "load_raises": ("raise RuntimeError('no luck')", "importing 'load_raises' raised RuntimeError: no luck"),
    "load_exits": ("raise SystemExit('bye')", "importing 'load_exits' raised SystemExit: bye"),
    "load_lacks": ("Bulb = 1", "there is no 'load_lacks:Lamp'"),
    "load_number": ("Lamp = 1", "is not a Manager class"),
    "load_dict": ("Lamp = dict", "is not a Manager class"),
    "load_role": (
        "from host_kit import Plain\nclass Lamp(Plain):\n    role = 'bulb'\n",
        "has the role 'bulb', and is offered for 'lamp'",
    ),
    "load_abstract": (
        "from base04_hookspecs import Manager\nclass Lamp(Manager):\n    role = 'lamp'\n",
        "lacks the methods health_check",
    ),
}


@pytest.mark.parametrize("module", MODULES)
def test_load_class_that_cannot_be_used_names_provider_plugin_and_reason(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source, told = MODULES[module]
    write_module(tmp_path, module, source)
    with pytest.raises(ResolutionError) as refused:
        load_class(candidate(f"{module}:Lamp"))
    assert told in str(refused.value)
    assert "bright of plugin acme (acme-dist 1.0)" in str(refused.value)


def test_load_class_without_its_extra_says_which_command_installs_it() -> None:
    with pytest.raises(ResolutionError, match=r"pip install 'acme-dist\[lights\]'") as refused:
        load_class(candidate("no_such_library_here.lamp:Lamp", extra="lights"))
    assert "No module named 'no_such_library_here'" in str(refused.value)
    with pytest.raises(ResolutionError) as plain:
        load_class(candidate("no_such_library_here.lamp:Lamp"))
    assert "pip install" not in str(plain.value)
