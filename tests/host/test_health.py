from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from base04 import health
from base04.app_manager import AppManager
from base04_hookspecs import HealthReport, Manager, health_report
from base04_hookspecs.errors import ManagerUnavailable
from host_kit import Plain, noting, offering, only, raising


class Alpha(Plain):
    role = "alpha"
    report: Any = None

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def health_check(self) -> HealthReport:
        self.asked.set()
        if isinstance(self.report, BaseException):
            raise self.report
        return self.report if self.report is not None else health_report()


class Beta(Plain):
    role = "beta"
    kept: HealthReport = health_report(connections=3)

    def __init__(self, alpha: Alpha) -> None: ...

    async def health_check(self) -> HealthReport:
        return self.kept


def host(tmp_path: Path, *classes: type[Manager], **managers: Any) -> AppManager:
    settings = only(tmp_path, **managers)
    settings["server"] = {"health_interval": "10ms"}
    return AppManager(settings, plugins=[("lights", offering(*classes))])


def alpha_of(app: AppManager) -> Alpha:
    alpha = app.get_manager("alpha")
    assert isinstance(alpha, Alpha)
    return alpha


async def test_health_of_all_managers_with_their_dependencies(tmp_path: Path) -> None:
    async with host(tmp_path, Alpha, Beta) as app:
        found = await app.health_check()
        assert found["status"] == "healthy"
        assert found["managers"]["beta"]["dependencies"] == {"alpha": "healthy"}
        assert found["managers"]["beta"]["metrics"]["connections"] == 3
        alpha_of(app).report = health_report("degraded", "slow")
        found = await app.health_check()
        assert found["status"] == "degraded"
        assert found["managers"]["beta"]["dependencies"] == {"alpha": "degraded"}
    assert Beta.kept["dependencies"] == {}


@pytest.mark.parametrize(
    ("report", "details"),
    [
        (ValueError("hush-hush"), "Its health check raised ValueError."),
        (asyncio.CancelledError(), "Its health check raised ManagerError."),
        ({"status": "healthy"}, "Its health check raised KeyError."),
        ({**health_report(), "status": "splendid"}, "Its health check raised ValueError."),
        ("fine", "Its health check raised TypeError."),
    ],
)
async def test_health_check_that_fails_is_an_unhealthy_manager(tmp_path: Path, report: Any, details: str) -> None:
    async with host(tmp_path, Alpha, Beta) as app:
        alpha_of(app).report = report
        with capture_logs() as logs:
            found = await app.health_check()
        assert found["status"] == "unhealthy"
        assert (found["managers"]["alpha"]["status"], found["managers"]["alpha"]["details"]) == ("unhealthy", details)
        assert found["managers"]["beta"]["status"] == "healthy"
        assert any(entry["event"] == "a health check raised" for entry in logs)


async def test_health_check_that_hangs_is_cut_and_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hanging(Alpha):
        async def health_check(self) -> HealthReport:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr(health, "PROBE_TIMEOUT_S", 0.05)
    async with host(tmp_path, Hanging, Beta) as app:
        found = await app.health_check()
        assert found["managers"]["alpha"]["details"] == "It did not answer within 0.05 s."
        assert found["managers"]["beta"]["status"] == "healthy"


async def test_health_of_what_is_not_required_degrades_the_whole(tmp_path: Path) -> None:
    down = noting(Alpha, [], start=raising(*[ManagerUnavailable("nobody there")] * 1000))
    async with host(tmp_path, down, alpha={"required": False, "start_timeout": "10ms"}) as app:
        found = await app.health_check()
        assert found["status"] == "degraded"
        assert found["managers"]["alpha"]["status"] == "unhealthy"
        assert found["managers"]["alpha"]["details"] == "It is not up: nobody there"


async def asked_again(alpha: Alpha, times: int = 2) -> None:
    for _ in range(times):
        alpha.asked.clear()
        await alpha.asked.wait()


async def test_health_is_asked_in_the_background_and_changes_are_logged(tmp_path: Path) -> None:
    app = host(tmp_path, Alpha, Beta)
    assert app.health.latest is None
    with capture_logs() as logs:
        async with app:
            alpha = alpha_of(app)
            await asked_again(alpha)
            alpha.report = ValueError("broken")
            await asked_again(alpha, 3)
            latest = app.health.latest
            assert latest is not None
            assert latest["status"] == "unhealthy"
            alpha.report = None
            await asked_again(alpha, 3)
    assert app.health.latest is None
    changes = [(entry["manager"], entry["status"]) for entry in logs if "health of a manager changed" in entry["event"]]
    assert changes == [("alpha", "unhealthy"), ("alpha", "healthy")]


async def test_health_of_a_host_that_has_not_started_is_not_to_be_had(tmp_path: Path) -> None:
    with pytest.raises(ManagerUnavailable, match="has not started"):
        await host(tmp_path, Alpha).health_check()
