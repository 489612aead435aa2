"""The provider ``inprocess``: the plugins of this host, and the switches for them."""

from __future__ import annotations

import difflib

from base04_hookspecs import HealthReport, health_report
from base04_hookspecs.app import AppManager
from base04_hookspecs.errors import NotFound
from base04_hookspecs.health import worst
from base04_hookspecs.module import ModuleInfo, ModuleManager


class InprocessModuleManager(ModuleManager):
    """Lists plugins and their health, and has the host change which ones take part."""

    def __init__(self, app: AppManager) -> None:
        self._app = app

    async def health_check(self) -> HealthReport:
        """Report how many plugins there are; degraded while one of them has failed or is not ready."""
        modules = self._app.list_plugins()
        failed = sorted(module["name"] for module in modules if module["status"] == "failed")
        waiting = sorted(module["name"] for module in modules if module.get("not_ready"))
        told = [f"{what}: {', '.join(names)}" for what, names in (("failed", failed), ("not ready", waiting)) if names]
        return health_report(
            "degraded" if told else "healthy",
            "; ".join(told) or "all plugins could be loaded",
            errors=len(failed),
            modules=len(modules),
            not_ready=len(waiting),
        )

    async def list_modules(self) -> list[ModuleInfo]:
        """Return all plugins that were found, by name."""
        return sorted(self._app.list_plugins(), key=lambda module: module["name"])

    async def get_module(self, name: str) -> ModuleInfo:
        """Return one plugin."""
        return self._find(name)

    async def get_module_health(self, name: str) -> HealthReport:
        """Return the worst health of the running managers that a plugin provides."""
        module = self._find(name)
        running = [_key(entry) for entry in module["contributes"]["running"]]
        if not running:
            return health_report(details=f"{name} provides no running manager")
        managers = (await self._app.health_check())["managers"]
        reports = {key: managers[key] for key in running if key in managers}
        unknown = sorted(set(running) - set(reports))
        known = worst(*(report["status"] for report in reports.values()))
        lines = [f"{key}: {report['details']}" for key, report in sorted(reports.items())]
        lines += [f"{key}: gave no report" for key in unknown]
        metrics = [report["metrics"] for report in reports.values()]
        return health_report(
            "unhealthy" if unknown else known,
            "; ".join(lines),
            connections=int(sum(each.get("connections", 0) for each in metrics)),
            errors=int(sum(each.get("errors", 0) for each in metrics)) + len(unknown),
            response_time=max((each.get("response_time", 0.0) for each in metrics), default=0.0),
            dependencies={key: report["status"] for key, report in reports.items()},
            managers=len(running),
        )

    async def enable_module(self, name: str) -> bool:
        """Let a plugin take part, from the next request on and after restarts."""
        return await self._app.enable_plugin(name)

    async def disable_module(self, name: str, *, swap: bool = False) -> bool:
        """Take a plugin out, from the next request on and after restarts; ``swap`` lets other providers take over."""
        return await self._app.disable_plugin(name, swap=swap)

    async def reload_module(self, name: str) -> bool:
        """Read settings, plugins and packs anew, and renew the managers that a plugin provides."""
        return await self._app.reload_plugin(name)

    def _find(self, name: str) -> ModuleInfo:
        modules = self._app.list_plugins()
        for module in modules:
            if module["name"] == name:
                return module
        names = sorted(module["name"] for module in modules)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are: {', '.join(names) or 'none'}."
        raise NotFound(f"There is no plugin {name!r}; {hint}")


def _key(running: str) -> str:
    """Return how the application's health names a manager that is listed as ``role[/instance]:provider``."""
    return running.rpartition(":")[0]
