"""The health of all managers, asked for in the background and on demand."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, get_args

import structlog

from base04.generation import Generation, Running
from base04.lifecycle import within
from base04.selection import InstanceKey
from base04_hookspecs.app import ApplicationHealth
from base04_hookspecs.health import HealthReport, HealthStatus, health_report, worst

if TYPE_CHECKING:
    from base04.app_manager import AppManager

PROBE_TIMEOUT_S: Final = 5.0

_log = structlog.get_logger()


class HealthMonitor:
    """Asks every manager at an interval, so that a health page costs nothing and hangs on nobody."""

    def __init__(self, app: AppManager, interval_s: float) -> None:
        self._app, self._interval_s = app, interval_s
        self._task: asyncio.Task[None] | None = None
        self._latest: ApplicationHealth | None = None

    @property
    def latest(self) -> ApplicationHealth | None:
        """The newest answers, None before the first."""
        return self._latest

    def start(self) -> None:
        """Begin to ask."""
        self._task = asyncio.create_task(self._ask_for_ever(), name="health")

    async def stop(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._latest = None

    async def _ask_for_ever(self) -> None:
        while True:
            previous = self._latest
            self._latest = await self.probe()
            _report_changes(previous, self._latest)
            self._app.succession.slow_calls.name_hanging()
            await asyncio.sleep(self._interval_s)

    async def probe(self) -> ApplicationHealth:
        """Ask all managers now, at the same time and each under a timeout."""
        with self._app.generation.pin() as generation:
            items = list(generation.running.values())
            reports = dict(zip((item.key for item in items), await asyncio.gather(*map(_ask, items)), strict=True))
        for key, reason in generation.down.items():
            reports[key] = health_report("unhealthy", f"It is not up: {reason}", errors=1)
        _fill_in_dependencies(generation, reports)
        return {
            "status": _overall(generation, reports),
            "managers": {str(key): reports[key] for key in sorted(reports)},
        }


async def _ask(item: Running) -> HealthReport:
    began = time.perf_counter()
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            return _complete(await within(item.manager.health_check()))
    except TimeoutError:
        return health_report("unhealthy", f"It did not answer within {PROBE_TIMEOUT_S:g} s.", errors=1)
    except Exception as error:  # noqa: BLE001 - a health check that raises is an unhealthy manager; it is reported
        _log.exception("a health check raised", manager=str(item.key))
        elapsed = time.perf_counter() - began
        return health_report(
            "unhealthy", f"Its health check raised {type(error).__name__}.", errors=1, response_time=elapsed
        )


def _complete(report: HealthReport) -> HealthReport:
    """Return a copy, which the host may fill in; what is no report raises."""
    if report["status"] not in get_args(HealthStatus):
        raise ValueError(f"{report['status']!r} is not a health status")
    return {
        "status": report["status"],
        "details": str(report["details"]),
        "metrics": dict(report["metrics"]),
        "dependencies": dict(report["dependencies"]),
    }


def _fill_in_dependencies(generation: Generation, reports: dict[InstanceKey, HealthReport]) -> None:
    for key, item in generation.running.items():
        known = {
            str(dependency.key): reports[dependency.key]["status"]
            for dependency in item.node.constructor.dependencies
            if dependency.key in reports
        }
        reports[key]["dependencies"] = {**known, **reports[key]["dependencies"]}


def _overall(generation: Generation, reports: dict[InstanceKey, HealthReport]) -> HealthStatus:
    statuses: list[HealthStatus] = []
    for key, report in reports.items():
        required = generation.plan.nodes[key].choice.settings.required
        statuses.append("degraded" if report["status"] == "unhealthy" and not required else report["status"])
    return worst(*statuses)


def _report_changes(previous: ApplicationHealth | None, latest: ApplicationHealth) -> None:
    for name, report in latest["managers"].items():
        before = previous["managers"].get(name) if previous else None
        if (before["status"] if before else "healthy") != report["status"]:
            level = _log.info if report["status"] == "healthy" else _log.warning
            level("the health of a manager changed", manager=name, status=report["status"], details=report["details"])
