from __future__ import annotations

from typing import Any

import pytest

from base04_hookspecs import Provider
from base04_hookspecs.errors import ConfigurationError
from host_kit import Plain


class Lamp(Plain):
    role = "lamp"


@pytest.mark.parametrize("name", ["memory", "server-2", "a_b"])
def test_provider_names_are_lower_case(name: str) -> None:
    assert Provider(name, "a.b:C").name == name


@pytest.mark.parametrize("name", ["", "Memory", "2nd", "a b", "a:b", "memory\n", "ä"])
def test_provider_names_that_settings_could_not_write_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="The provider name"):
        Provider(name, "a.b:C")


def test_provider_cannot_be_called_as_the_switch() -> None:
    with pytest.raises(ConfigurationError, match="switches a role off"):
        Provider("none", "a.b:C")


@pytest.mark.parametrize("target", ["a.b", "a.b:", ":C", "a b:C", "a.b:C()", "a.b:C\n"])
def test_provider_targets_are_module_and_class(target: str) -> None:
    with pytest.raises(ConfigurationError, match=r"'package\.module:Class'"):
        Provider("memory", target)


@pytest.mark.parametrize("implementation", [dict, 7, Lamp()])
def test_provider_takes_manager_classes_alone(implementation: Any) -> None:
    with pytest.raises(ConfigurationError, match="neither a Manager class"):
        Provider("memory", implementation)


def test_provider_target_is_the_same_for_class_and_string() -> None:
    assert Provider("memory", "a.b:C.D").target == "a.b:C.D"
    assert Provider("memory", Lamp).target == f"{__name__}:Lamp"
