"""What every provider of the role ``module`` does."""

from __future__ import annotations

from typing import NotRequired, get_args, get_origin, get_type_hints

import pytest

from base04.testing.conformance.declared import DeclaredCapabilities
from base04_hookspecs.errors import Conflict, NotFound, NotSupported
from base04_hookspecs.module import ModuleInfo, ModuleManager, ModuleStatus


class ModuleConformance(DeclaredCapabilities):
    """Subclass it, and give it the fixture ``manager`` (started) of a host with at least one enabled plugin."""

    async def test_modules_are_listed_by_name(self, manager: ModuleManager) -> None:
        modules = await manager.list_modules()
        names = [module["name"] for module in modules]
        assert names
        assert names == sorted(set(names))

    async def test_every_module_has_all_keys(self, manager: ModuleManager) -> None:
        hints = get_type_hints(ModuleInfo, include_extras=True)
        needed = {name for name, hint in hints.items() if get_origin(hint) is not NotRequired}
        for module in await manager.list_modules():
            assert set(hints) >= set(module) >= needed
            assert module["status"] in get_args(ModuleStatus)
            assert bool(module["error"]) == (module["status"] == "failed")
            assert set(module["contributes"]) >= {"providers", "running", "hooks", "packs"}

    async def test_a_listed_module_can_be_had_alone(self, manager: ModuleManager) -> None:
        for module in await manager.list_modules():
            assert await manager.get_module(module["name"]) == module

    async def test_every_module_has_a_complete_health_report(self, manager: ModuleManager) -> None:
        for module in await manager.list_modules():
            report = await manager.get_module_health(module["name"])
            assert report["status"] in ("healthy", "degraded", "unhealthy")
            assert {"connections", "errors", "response_time"} <= set(report["metrics"])
            if not module["contributes"]["running"]:
                assert report["status"] == "healthy"

    async def test_an_unknown_name_is_answered_with_close_ones(self, manager: ModuleManager) -> None:
        name = (await manager.list_modules())[0]["name"]
        for ask in (manager.get_module, manager.get_module_health):
            with pytest.raises(NotFound, match=name):
                await ask(f"{name}x")

    async def test_an_unknown_module_cannot_be_switched(self, manager: ModuleManager) -> None:
        for switch in (manager.enable_module, manager.disable_module, manager.reload_module):
            with pytest.raises((NotFound, NotSupported)):
                await switch("no such module")

    async def test_switching_works_or_says_what_to_do(self, manager: ModuleManager) -> None:
        name = next(module["name"] for module in await manager.list_modules() if module["status"] == "enabled")
        try:
            switched = await manager.disable_module(name)
        except (NotSupported, Conflict) as refused:
            assert name in str(refused)
            assert (await manager.get_module(name))["status"] == "enabled"
        else:
            assert switched
            assert (await manager.get_module(name))["status"] == "disabled"
            assert await manager.enable_module(name)
            assert not await manager.enable_module(name)
            assert (await manager.get_module(name))["status"] == "enabled"

    async def test_its_own_health_is_complete(self, manager: ModuleManager) -> None:
        report = await manager.health_check()
        assert {"connections", "errors", "response_time"} <= set(report["metrics"])
