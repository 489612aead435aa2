from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from base04.testing.conformance.state import StateConformance
from base04_builtin.database.sqlite import SqliteDatabaseManager, SqliteSettings
from base04_builtin.state import state_providers
from base04_builtin.state.database import DatabaseStateManager, StateSettings
from base04_hookspecs import HealthReport, health_report
from base04_hookspecs.errors import ManagerUnavailable
from base04_hookspecs.hooks import HookCallback, HookInfo, HooksManager
from base04_hookspecs.state import StateChange

[PROVIDER] = state_providers()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabaseManager]:
    manager = SqliteDatabaseManager(SqliteSettings(path=tmp_path / "base04.sqlite3"))
    await manager.start()
    yield manager
    await manager.stop()


@pytest.fixture
async def manager(database: SqliteDatabaseManager) -> AsyncIterator[DatabaseStateManager]:
    states = DatabaseStateManager(StateSettings(), database, None, None)
    await states.start()
    yield states
    await states.stop()


class TestDatabaseState(StateConformance):
    capabilities = PROVIDER.capabilities


class ListeningHooks(HooksManager):
    """Real enough to hear what is announced; fails where it is told to."""

    def __init__(self, *, fail: bool = False) -> None:
        self.fail = fail
        self.heard: list[tuple[str, dict[str, Any]]] = []

    async def health_check(self) -> HealthReport:
        return health_report()

    async def register_hook(self, name: str, description: str = "") -> bool:
        return True

    async def register_callback(self, name: str, callback: HookCallback, priority: int = 0) -> bool:
        return True

    async def unregister_callback(self, name: str, callback: HookCallback) -> bool:
        return True

    async def trigger_hook(self, name: str, /, **data: Any) -> list[Any]:
        if self.fail:
            raise RuntimeError("no hooks today")
        self.heard.append((name, data))
        return []

    async def list_hooks(self) -> list[HookInfo]:
        return []


async def test_changes_are_announced(database: SqliteDatabaseManager) -> None:
    hooks = ListeningHooks()
    states = DatabaseStateManager(StateSettings(), database, None, hooks)
    await states.start()
    await states.register_state("s", "session", {"a": 1})
    [history] = await states.get_state_history("s")
    assert hooks.heard == [("state.changed", {"state_type": "session", **history})]
    await states.stop()


async def test_announcement_that_fails_undoes_nothing(database: SqliteDatabaseManager) -> None:
    states = DatabaseStateManager(StateSettings(), database, None, ListeningHooks(fail=True))
    await states.start()
    assert await states.register_state("s", "session", {}) is True
    assert (await states.health_check())["metrics"]["callback_failures"] == 1
    await states.stop()


async def test_callback_that_lets_out_a_cancellation_cancels_nobody(manager: DatabaseStateManager) -> None:
    async def listen(change: StateChange) -> None:
        raise asyncio.CancelledError

    await manager.register_callback("s", listen)
    assert await manager.register_state("s", "session", {}) is True


async def test_stop_waits_for_callbacks(manager: DatabaseStateManager) -> None:
    entered, released, left = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def listen(change: StateChange) -> None:
        entered.set()
        await released.wait()
        left.set()

    await manager.register_callback("s", listen)
    registering = asyncio.create_task(manager.register_state("s", "session", {}))
    await entered.wait()
    registering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await registering
    stopping = asyncio.create_task(manager.stop())
    released.set()
    await stopping
    assert left.is_set()
    assert await manager.get_state("s") is not None


async def test_two_hosts_on_one_file_lose_no_update(database: SqliteDatabaseManager, tmp_path: Path) -> None:
    other_database = SqliteDatabaseManager(SqliteSettings(path=tmp_path / "base04.sqlite3"))
    await other_database.start()
    managers = [DatabaseStateManager(StateSettings(), each, None, None) for each in (database, other_database)]
    await asyncio.gather(*(manager.start() for manager in managers))
    await managers[0].register_state("s", "session", {})
    await asyncio.gather(*(managers[n % 2].update_state("s", {str(n): n}) for n in range(40)))
    state = await managers[1].get_state("s")
    assert state is not None
    assert state["data"] == {str(n): n for n in range(40)}
    assert [change["version"] for change in await managers[0].get_state_history("s")] == list(range(41, 0, -1))
    for manager in managers:
        await manager.stop()
    await other_database.stop()


async def test_states_survive_a_restart(database: SqliteDatabaseManager) -> None:
    first = DatabaseStateManager(StateSettings(), database, None, None)
    await first.start()
    await first.register_state("s", "session", {"a": 1}, ["update"])
    before = await first.get_state("s")
    await first.stop()
    second = DatabaseStateManager(StateSettings(), database, None, None)
    await second.start()
    assert await second.get_state("s", fresh=True) == before
    await second.stop()


async def test_unreachable_database_is_unhealthy(tmp_path: Path) -> None:
    database = SqliteDatabaseManager(SqliteSettings(path=tmp_path / "base04.sqlite3"))
    await database.start()
    states = DatabaseStateManager(StateSettings(), database, None, None)
    await states.start()
    await database.stop()
    report = await states.health_check()
    assert (report["status"], report["dependencies"]) == ("unhealthy", {"database": "unhealthy"})
    with pytest.raises(ManagerUnavailable):
        await states.update_state("s", {})
    await states.stop()
