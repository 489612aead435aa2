"""The provider ``inprocess`` of the role ``module``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest
from starlette.applications import Starlette
from starlette.types import Scope

from base04.testing.conformance.module import ModuleConformance
from base04_builtin.module.inprocess import InprocessModuleManager
from base04_hookspecs import ANONYMOUS, HealthReport, Manager, Principal, health_report
from base04_hookspecs.app import ActionPackSource, ActionSource, ApplicationHealth, AppManager, ReloadReport
from base04_hookspecs.errors import Conflict, NotFound
from base04_hookspecs.health import HealthStatus
from base04_hookspecs.markers import AccessRole
from base04_hookspecs.module import ModuleInfo, ModuleManager, ModuleStatus


def plugin(name: str, status: ModuleStatus = "enabled", *running: str) -> ModuleInfo:
    return {
        "name": name,
        "status": status,
        "source": "installed",
        "distribution": f"{name}-dist",
        "version": "1.0",
        "target": name,
        "reason": "",
        "error": "Traceback ..." if status == "failed" else "",
        "load_time": 0.0,
        "contributes": {"providers": list(running), "running": list(running), "hooks": [], "packs": []},
    }


class TableApp(AppManager):
    """A host that answers from two tables and has no managers."""

    def __init__(self, plugins: list[ModuleInfo], reports: Mapping[str, HealthReport]) -> None:
        self.plugins = plugins
        self.reports = dict(reports)

    def list_plugins(self) -> list[ModuleInfo]:
        return self.plugins

    async def health_check(self) -> ApplicationHealth:
        return {"status": "healthy", "managers": self.reports}

    @property
    def data_dir(self) -> Path:
        return Path()

    async def identify(self, scope: Scope) -> Principal:
        return ANONYMOUS

    async def reload(self, *, dry_run: bool = False) -> ReloadReport:
        raise Conflict("This host stands still.")

    async def enable_plugin(self, name: str) -> bool:
        return self._switched(name, "enabled")

    async def disable_plugin(self, name: str, *, swap: bool = False) -> bool:
        return self._switched(name, "disabled")

    async def reload_plugin(self, name: str) -> bool:
        return not self._switched(name, "enabled")

    def _switched(self, name: str, status: ModuleStatus) -> bool:
        found = next((item for item in self.plugins if item["name"] == name), None)
        if found is None:
            raise NotFound(f"There is no plugin {name!r}.")
        before, found["status"] = found["status"], status
        return before != status

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def initialize(self, app: Starlette) -> None: ...
    def run(self, app: Starlette | None = None, **kwargs: Any) -> None: ...

    def is_initialized(self) -> bool:
        return True

    async def check_database_connection(self) -> bool:
        return False

    async def check_redis_connection(self) -> bool:
        return False

    def get_manager(self, role: str, instance: str = "default") -> Manager:
        raise NotFound(f"There is no role {role!r}.")

    async def run_action(
        self, name: str, args: Mapping[str, Any] | None = None, *, principal: Principal | None = None
    ) -> Any:
        raise NotFound(f"There is no action {name!r}.")

    def list_action_sources(self) -> list[ActionSource]:
        return []

    def list_action_packs(self) -> list[ActionPackSource]:
        return []

    def get_db_manager(self, role: AccessRole = "read_write", name: str = "default") -> NoReturn:
        raise NotFound("There is no database.")

    def get_state_manager(self) -> NoReturn:
        raise NotFound("There is no state.")

    def get_redis_manager(self) -> NoReturn:
        raise NotFound("There is no redis.")

    def get_websocket_manager(self) -> NoReturn:
        raise NotFound("There is no websocket.")

    @property
    def jwt_manager(self) -> NoReturn:
        raise NotFound("There is no jwt.")

    @property
    def api_key_manager(self) -> NoReturn:
        raise NotFound("There is no api_key.")

    @property
    def vault_manager(self) -> NoReturn:
        raise NotFound("There is no vault.")

    @property
    def rate_limiter_manager(self) -> NoReturn:
        raise NotFound("There is no rate_limiter.")

    @property
    def action_discovery_manager(self) -> NoReturn:
        raise NotFound("There is no action_discovery.")

    @property
    def module_manager(self) -> NoReturn:
        raise NotFound("There is no module.")

    @property
    def services_manager(self) -> NoReturn:
        raise NotFound("There is no services.")

    @property
    def hooks_manager(self) -> NoReturn:
        raise NotFound("There is no hooks.")


class TestConformance(ModuleConformance):
    @pytest.fixture
    def manager(self) -> ModuleManager:
        plugins = [plugin("zeta"), plugin("alpha", "enabled", "redis:memory"), plugin("broken", "failed")]
        return InprocessModuleManager(TableApp(plugins, {"redis": health_report()}))


async def health_of(*running: str, **statuses: HealthStatus) -> HealthReport:
    reports = {
        key.replace("__", "/"): health_report(status, connections=2, errors=1) for key, status in statuses.items()
    }
    return await InprocessModuleManager(TableApp([plugin("p", "enabled", *running)], reports)).get_module_health("p")


async def test_module_health_is_the_worst_of_its_running_managers() -> None:
    report = await health_of(
        "redis:memory", "database/reports:mongodb", redis="healthy", database__reports="degraded", vault="unhealthy"
    )
    assert report["status"] == "degraded"
    assert report["details"] == "database/reports: degraded; redis: healthy"
    assert report["dependencies"] == {"redis": "healthy", "database/reports": "degraded"}
    assert (report["metrics"]["connections"], report["metrics"]["errors"]) == (4, 2)


async def test_module_health_tells_instances_apart() -> None:
    assert (await health_of("redis:memory", redis="healthy", redis__other="unhealthy"))["status"] == "healthy"
    assert (await health_of("redis/other:memory", redis="healthy", redis__other="unhealthy"))["status"] == "unhealthy"


async def test_running_manager_without_a_report_is_unhealthy() -> None:
    report = await health_of("redis:memory")
    assert (report["status"], report["details"]) == ("unhealthy", "redis: gave no report")


async def test_module_without_running_managers_is_healthy() -> None:
    assert (await health_of(redis="unhealthy"))["status"] == "healthy"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("acme-cach", "There is no plugin 'acme-cach'; did you mean 'acme-cache'?"),
        ("zzz", "There is no plugin 'zzz'; there are: acme-cache, mailer."),
    ],
)
async def test_unknown_module_names_those_that_there_are(name: str, expected: str) -> None:
    manager = InprocessModuleManager(TableApp([plugin("mailer"), plugin("acme-cache")], {}))
    with pytest.raises(NotFound) as caught:
        await manager.get_module(name)
    assert str(caught.value) == expected


async def test_manager_is_degraded_while_a_plugin_has_failed() -> None:
    app = TableApp([plugin("mailer"), plugin("broken", "failed")], {})
    manager = InprocessModuleManager(app)
    report = await manager.health_check()
    assert (report["status"], report["details"], report["metrics"]["modules"]) == ("degraded", "failed: broken", 2)
    app.plugins.pop()
    assert (await manager.health_check())["status"] == "healthy"
