from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from base04.app_manager import AppManager
from base04.errors import HostError
from base04.workers.sharing import refuse_what_is_not_shared
from base04_hookspecs import Manager, Provider, health_report, hookimpl
from base04_hookspecs.health import HealthReport
from base04_hookspecs.settings import ManagerSettings

SERVER = {"provider": "server", "server": {"url": "redis://127.0.0.1/0"}}


class Shelf(Manager):
    """A role that a plugin brings, and of which all processes need the same."""

    role: ClassVar[str] = "shelf"
    one_for_all: ClassVar[bool] = True

    async def health_check(self) -> HealthReport:
        return health_report()


class BoxSettings(ManagerSettings):
    where: str = "here"


class Box(Manager):
    """One whose settings decide."""

    role: ClassVar[str] = "box"

    def __init__(self, settings: BoxSettings) -> None:
        self.settings = settings

    @classmethod
    def own_to_process(cls, settings: BoxSettings | None) -> str | None:
        return "what is in the box" if settings is not None and settings.where == "here" else None

    async def health_check(self) -> HealthReport:
        return health_report()


class Plugin:
    def __init__(self, *capabilities: str) -> None:
        self.capabilities = frozenset(capabilities)

    @hookimpl
    def extra_providers(self) -> list[Provider]:
        return [
            Provider("plain", Shelf, role="shelf", capabilities=self.capabilities),
            Provider("box", Box, role="box"),
        ]


def refused(tmp_path: Path, managers: dict[str, Any], *capabilities: str) -> str:
    given = {"redis": SERVER, **managers}
    host = AppManager(
        {"data_dir": str(tmp_path), "managers": given}, plugins=[("acme", Plugin(*capabilities))], safe_mode=True
    )
    try:
        refuse_what_is_not_shared(host.blueprint, 2)
    except HostError as error:
        return str(error)
    return ""


def test_role_that_is_one_for_all_needs_the_capability(tmp_path: Path) -> None:
    elsewhere = {"box": {"where": "elsewhere"}}
    assert "shelf: the provider plain" in refused(tmp_path, elsewhere)
    assert "capability 'shared'" in refused(tmp_path, elsewhere)
    assert refused(tmp_path, elsewhere, "shared") == ""


def test_settings_may_decide(tmp_path: Path) -> None:
    told = refused(tmp_path, {"box": {"where": "here"}}, "shared")
    assert "box: the provider box" in told
    assert "for itself, what is in the box." in told


def test_all_offenders_are_named_at_once(tmp_path: Path) -> None:
    told = refused(tmp_path, {"redis": {"provider": "memory"}})
    assert [line.split(":")[0] for line in told.splitlines() if line.startswith("  - ")] == [
        "  - box",
        "  - redis",
        "  - shelf",
    ]


def test_named_instances_count_too(tmp_path: Path) -> None:
    managers = {"redis": {**SERVER, "instances": {"cache": {"provider": "memory"}}}, "box": {"where": "x"}}
    told = refused(tmp_path, managers, "shared")
    assert "redis/cache: the provider memory" in told
    assert "`managers.redis.instances.cache.provider: server`" in told


@pytest.mark.parametrize("provider", ["sqlite", "postgresql", "mongodb"])
def test_databases_can_be_shared(tmp_path: Path, provider: str) -> None:
    url = {"postgresql": "postgresql://localhost/x", "mongodb": "mongodb://localhost/x"}.get(provider)
    database = {"provider": provider, **({provider: {"url": url}} if url else {})}
    assert refused(tmp_path, {"database": database, "box": {"where": "x"}}, "shared") == ""
