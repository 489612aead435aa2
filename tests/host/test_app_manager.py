from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from base04.app_manager import AppManager
from base04.errors import SelectionError, StopError
from base04_builtin.redis.memory import MemoryRedisManager
from base04_hookspecs import Manager, Provider, hookimpl
from base04_hookspecs.app import AppManager as AppManagerContract
from base04_hookspecs.errors import ManagerUnavailable, NotFound
from base04_hookspecs.roles import ROLES
from host_kit import Plain, Site, hanging, noting, offering, only, raising, rate_limiter_plugin


class Alpha(Plain):
    role = "alpha"


class Beta(Plain):
    role = "beta"

    def __init__(self, alpha: Alpha) -> None: ...


class Watcher(Plain):
    """Sees the host from inside."""

    role = "watcher"

    def __init__(self, app: AppManagerContract) -> None:
        self.app = app


def host(tmp_path: Path, *classes: type[Manager], extra: object = None, **managers: Any) -> AppManager:
    plugins = [("lights", offering(*classes)), *([("extra", extra)] if extra is not None else [])]
    return AppManager(only(tmp_path, **managers), plugins=plugins)


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[AppManager]:
    settings = {"data_dir": str(tmp_path / "data"), "plugins": {"autoload": False}}
    async with AppManager(settings) as app:
        yield app


async def test_app_starts_once_and_stops_once(tmp_path: Path) -> None:
    journal: list[str] = []
    app = host(tmp_path, noting(Alpha, journal))
    await app.stop()
    await asyncio.gather(app.start(), app.start())
    await app.start()
    assert app.is_initialized()
    assert journal == ["start alpha"]
    await asyncio.gather(app.stop(), app.stop())
    await app.stop()
    assert not app.is_initialized()
    assert journal == ["start alpha", "stop alpha"]


async def test_app_starts_again_with_fresh_instances(tmp_path: Path) -> None:
    app = host(tmp_path, Alpha)
    async with app:
        first = app.get_manager("alpha")
    async with app:
        assert app.get_manager("alpha") is not first


async def test_app_that_has_not_started_says_so(tmp_path: Path) -> None:
    app = host(tmp_path, Alpha)
    with pytest.raises(ManagerUnavailable, match="has not started"):
        app.get_manager("alpha")
    assert not (tmp_path / "data").exists()


async def test_app_starts_all_roles_and_has_the_accessors_of_the_specification(embedded: AppManager) -> None:
    assert {key.role for key in embedded.generation.running} == set(ROLES)
    by_role = {
        "state": embedded.get_state_manager(),
        "redis": embedded.get_redis_manager(),
        "websocket": embedded.get_websocket_manager(),
        "jwt": embedded.jwt_manager,
        "api_key": embedded.api_key_manager,
        "vault": embedded.vault_manager,
        "rate_limiter": embedded.rate_limiter_manager,
        "action_discovery": embedded.action_discovery_manager,
        "module": embedded.module_manager,
        "services": embedded.services_manager,
        "hooks": embedded.hooks_manager,
    }
    for role, manager in by_role.items():
        assert isinstance(manager, ROLES[role])
        assert manager is embedded.get_manager(role)
    assert isinstance(embedded.get_db_manager(), ROLES["database"])
    assert await embedded.check_database_connection()
    assert await embedded.check_redis_connection()
    found = await embedded.health_check()
    assert set(found["managers"]) == set(ROLES)
    assert found["status"] == "healthy"


async def test_app_lists_plugins_with_what_they_run(embedded: AppManager) -> None:
    plugins = {info["name"]: info for info in embedded.list_plugins()}
    assert plugins["builtin-redis"]["contributes"]["running"] == ["redis:memory"]
    assert plugins["builtin-redis"]["status"] == "enabled"
    assert await embedded.module_manager.list_modules() == list(plugins.values())


async def test_app_without_a_database_has_no_connection(tmp_path: Path) -> None:
    async with host(tmp_path, Alpha) as app:
        assert not await app.check_database_connection()
        assert not await app.check_redis_connection()
        with pytest.raises(NotFound, match="switched off"):
            app.get_redis_manager()


async def test_app_gives_itself_to_who_asks_and_starts_them_last(tmp_path: Path) -> None:
    journal: list[str] = []
    classes = [noting(cls, journal) for cls in (Watcher, Alpha, Beta)]
    async with host(tmp_path, *classes) as app:
        watcher = app.get_manager("watcher")
        assert isinstance(watcher, Watcher)
        assert watcher.app is app
    assert journal[:3] == ["start alpha", "start beta", "start watcher"]
    assert journal[3:] == ["stop watcher", "stop beta", "stop alpha"]


async def test_app_starts_only_what_is_asked_for_and_what_that_needs(tmp_path: Path) -> None:
    plugins = [("lights", offering(Alpha, Beta, Watcher))]
    async with AppManager(only(tmp_path), plugins=plugins, only=["beta"]) as app:
        assert {key.role for key in app.generation.running} == {"alpha", "beta"}


async def test_app_takes_steps_at_start_and_in_reverse_at_stop_whatever_they_raise(tmp_path: Path) -> None:
    journal: list[str] = []

    def step(name: str, *, fails: bool = False) -> Any:
        async def take(app: AppManagerContract) -> None:
            assert app.is_initialized()
            journal.append(name)
            if fails:
                raise asyncio.CancelledError if name == "d" else ValueError("no luck")

        return take

    @hookimpl
    def startup() -> list[Any]:
        return [step("a", fails=True), step("b")]

    @hookimpl
    def shutdown() -> list[Any]:
        return [step("c"), step("d", fails=True)]

    extra = SimpleNamespace(startup=startup, shutdown=shutdown)
    with capture_logs() as logs:
        async with host(tmp_path, noting(Alpha, journal), extra=extra):
            assert journal == ["start alpha", "a", "b"]
    assert journal[3:] == ["d", "c", "stop alpha"]
    failed = [(entry["hook"], entry["plugin"]) for entry in logs if "lifecycle step" in entry["event"]]
    assert failed == [("startup", "extra"), ("shutdown", "extra")]


async def test_app_whose_start_is_cancelled_in_a_step_leaves_nothing_running(tmp_path: Path) -> None:
    journal: list[str] = []
    reached = asyncio.Event()

    async def hang(app: AppManagerContract) -> None:
        reached.set()
        await hanging(app)

    @hookimpl
    def startup() -> list[Any]:
        return [hang]

    app = host(tmp_path, noting(Alpha, journal), extra=SimpleNamespace(startup=startup))
    starting = asyncio.create_task(app.start())
    await reached.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert journal == ["start alpha", "stop alpha"]
    assert not app.is_initialized()
    async with host(tmp_path, Alpha) as again:
        assert again.is_initialized()


async def test_app_whose_stop_is_cancelled_stops_its_managers_all_the_same(tmp_path: Path) -> None:
    journal: list[str] = []
    reached = asyncio.Event()

    async def hang(app: AppManagerContract) -> None:
        reached.set()
        await hanging(app)

    @hookimpl
    def shutdown() -> list[Any]:
        return [hang]

    app = host(tmp_path, noting(Alpha, journal), extra=SimpleNamespace(shutdown=shutdown))
    await app.start()
    stopping = asyncio.create_task(app.stop())
    await reached.wait()
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert journal == ["start alpha", "stop alpha"]
    assert not app.is_initialized()


async def test_app_waits_for_requests_before_it_stops(tmp_path: Path) -> None:
    journal: list[str] = []
    app = host(tmp_path, noting(Alpha, journal))
    await app.start()
    with app.generation.pin():
        stopping = asyncio.create_task(app.stop())
        for _ in range(20):
            await asyncio.sleep(0)
        assert "stop alpha" not in journal
        assert app.get_manager("alpha")
    await stopping
    assert "stop alpha" in journal


async def test_app_reports_an_error_of_stop_from_its_context_too(tmp_path: Path) -> None:
    with pytest.raises(StopError, match="jammed"):
        async with host(tmp_path, noting(Alpha, [], stop=raising(ValueError("jammed")))):
            pass


async def test_app_logs_what_is_replaced(tmp_path: Path) -> None:
    @hookimpl
    def redis_providers() -> list[Provider]:
        return [Provider("mine", MemoryRedisManager)]

    with capture_logs() as logs:
        async with host(tmp_path, extra=SimpleNamespace(redis_providers=redis_providers), redis={}) as app:
            assert isinstance(app.get_redis_manager(), MemoryRedisManager)
    [told] = [entry for entry in logs if entry["event"] == "a built-in manager is replaced"]
    assert (told["manager"], told["instead_of"]) == ("redis", "memory")
    assert "mine of plugin extra" in told["by"]


@pytest.mark.parametrize("choose", [False, True])
async def test_app_starts_without_a_plugin_that_fails_unless_its_provider_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choose: bool
) -> None:
    site, name = Site(tmp_path, monkeypatch), f"app-broken-{choose}"
    module = name.replace("-", "_").lower()
    source = "raise RuntimeError('no luck today')" + rate_limiter_plugin().replace("\n    ", "\n")
    site.install(name, plugins={name: module}, modules={module: source})
    settings = only(tmp_path, **({"rate_limiter": {"provider": "counting"}} if choose else {}))
    settings["plugins"] = {"allow": [name]}
    app = AppManager(settings, plugins=[("lights", offering(Alpha))])
    if choose:
        with pytest.raises(SelectionError, match=rf"{name} \({name} 1\.0\): RuntimeError: no luck today"):
            await app.start()
        return
    async with app:
        info = next(info for info in app.list_plugins() if info["name"] == name)
        assert info["status"] == "failed"
        assert "no luck today" in info["error"]


async def test_app_in_safe_mode_leaves_installed_plugins_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path, monkeypatch)
    site.install("app-safe", plugins={"app-safe": "app_safe"}, modules={"app_safe": "raise RuntimeError"})
    async with AppManager({"data_dir": str(tmp_path / "data")}, safe_mode=True) as app:
        info = next(info for info in app.list_plugins() if info["name"] == "app-safe")
        assert (info["status"], "safe mode" in info["reason"]) == ("denied", True)
