from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Any

import pytest

from base04_hookspecs import Manager
from base04_hookspecs.markers import PROJECT
from base04_hookspecs.roles import HOOK_SPECIFICATIONS, ROLES

OF_THE_DESIGN = {
    "state",
    "database",
    "redis",
    "jwt",
    "api_key",
    "vault",
    "rate_limiter",
    "action_discovery",
    "websocket",
    "module",
    "services",
    "hooks",
    "executor",
}
SPECIFICATIONS = [
    pytest.param(function, id=name)
    for module in HOOK_SPECIFICATIONS
    for name, function in vars(module).items()
    if hasattr(function, f"{PROJECT}_spec")
]


def test_roles_are_those_of_the_design() -> None:
    assert set(ROLES) == OF_THE_DESIGN


@pytest.mark.parametrize("role", ROLES)
def test_role_has_a_contract_and_a_hook_in_the_module_of_its_name(role: str) -> None:
    contract = ROLES[role]
    module = inspect.getmodule(contract)
    assert issubclass(contract, Manager)
    assert inspect.isabstract(contract)
    assert contract.role == role
    assert isinstance(module, types.ModuleType)
    assert module.__name__ == f"base04_hookspecs.{role}"
    assert module in HOOK_SPECIFICATIONS
    assert hasattr(getattr(module, f"{role}_providers"), f"{PROJECT}_spec")


@pytest.mark.parametrize("role", ROLES)
def test_role_is_documented_method_by_method(role: str) -> None:
    contract = ROLES[role]
    assert (contract.__doc__ or "").strip()
    assert (inspect.getmodule(contract).__doc__ or "").startswith(f"The role ``{role}``")
    for name, method in vars(contract).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            assert (method.__doc__ or "").strip(), f"{contract.__name__}.{name} has no docstring"
            assert "return" in inspect.get_annotations(method), f"{contract.__name__}.{name} says not what it returns"


@pytest.mark.parametrize("function", SPECIFICATIONS)
def test_hook_specification_says_who_calls_it_and_what_none_means(function: Callable[..., Any]) -> None:
    told = " ".join((function.__doc__ or "").split())
    assert "host calls each implementation once" in told or "command line calls each implementation once" in told
    assert list(inspect.signature(function).parameters) in ([], ["app"])
    if function.__name__ in ("startup", "shutdown", "before_action", "after_action", "audit_event"):
        assert "One that raises" in told
    else:
        assert "None" in told
