"""The manager on a ``state`` manager that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, cast

import pytest
from base04_maintenance.manager import STATE_ID, MaintenanceSettings, StateMaintenanceManager

from base04_hookspecs.errors import HistoryPruned, ManagerUnavailable
from base04_hookspecs.state import StateManager


class States:
    """As much of ``state`` as the manager uses; ``down`` makes it fail."""

    def __init__(self) -> None:
        self.data: dict[str, Any] | None = None
        self.version = 0
        self.down: Exception | None = None
        self.pruned: Exception | None = None
        self.changed = asyncio.Event()

    async def get_state(self, state_id: str, *, fresh: bool = False) -> Any:
        assert (state_id, fresh) == (STATE_ID, True)
        if self.down is not None:
            raise self.down
        return None if self.data is None else {"version": self.version, "data": self.data}

    async def get_state_history(self, state_id: str, limit: int) -> list[dict[str, Any]]:
        assert (state_id, limit) == (STATE_ID, 1)
        if self.down is not None:
            raise self.down
        return [{"version": self.version}] if self.version else []

    async def register_state(
        self, state_id: str, state_type: str, data: Mapping[str, Any], allowed: Sequence[str] | None = None
    ) -> bool:
        if self.data is not None:
            return False
        await self.replace_state(state_id, data)
        return True

    async def replace_state(self, state_id: str, data: Mapping[str, Any]) -> bool:
        if self.down is not None:
            raise self.down
        self.data, self.version = dict(data), self.version + 1
        return True

    def tell(self, down: Exception | None = None) -> None:
        self.down = down
        self.changed.set()

    async def watch(self, state_id: str, *, from_version: int | None = None) -> AsyncIterator[dict[str, Any]]:
        while True:
            await self.changed.wait()
            self.changed.clear()
            if self.pruned is not None:
                pruned, self.pruned = self.pruned, None
                raise pruned
            if self.down is not None:
                raise self.down
            if self.version > (from_version or 0):
                yield {"version": self.version, "after": self.data}


@pytest.fixture
def states() -> States:
    return States()


@pytest.fixture
async def manager(states: States) -> AsyncIterator[StateMaintenanceManager]:
    manager = StateMaintenanceManager(MaintenanceSettings(), cast(StateManager, states))
    await manager.start()
    yield manager
    await manager.stop()


async def until_health(manager: StateMaintenanceManager, status: str) -> None:
    async with asyncio.timeout(60):
        while (await manager.health_check())["status"] != status:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)


async def test_what_was_known_holds_while_the_database_is_away(
    states: States, manager: StateMaintenanceManager
) -> None:
    await manager.close("We move.", None, "ada")
    states.tell(ManagerUnavailable("The database is away."))
    await until_health(manager, "degraded")
    closure = manager.current()
    assert closure is not None
    assert (closure.message, closure.by) == ("We move.", "ada")
    with pytest.raises(ManagerUnavailable):
        await manager.reopen()
    assert manager.current() == closure
    states.down = None
    await states.replace_state(STATE_ID, {"closed": False})
    await until_health(manager, "healthy")
    assert manager.current() is None


async def test_pruned_history_is_no_fault(states: States, manager: StateMaintenanceManager) -> None:
    await states.replace_state(STATE_ID, {"closed": True, "message": "Hello"})
    states.pruned = HistoryPruned("kept no more")
    states.changed.set()
    async with asyncio.timeout(60):
        while manager.current() is None:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
    assert (await manager.health_check())["metrics"]["errors"] == 0


async def test_closing_again_keeps_since(manager: StateMaintenanceManager) -> None:
    first = await manager.close("One", 60, "ada")
    second = await manager.close("Two", None, "bob")
    assert (second.since, second.message, second.ends_at) == (first.since, "Two", None)


async def test_stopped_manager_says_so(states: States) -> None:
    manager = StateMaintenanceManager(MaintenanceSettings(), cast(StateManager, states))
    await manager.stop()
    assert (await manager.health_check())["status"] == "unhealthy"


async def test_history_of_a_state_that_was_deleted_is_not_gone_through_again(states: States) -> None:
    states.version = 7  # and there is none
    manager = StateMaintenanceManager(MaintenanceSettings(), cast(StateManager, states))
    asked: list[int | None] = []
    watch = states.watch

    def noting(state_id: str, *, from_version: int | None = None) -> AsyncIterator[dict[str, Any]]:
        asked.append(from_version)
        return watch(state_id, from_version=from_version)

    states.watch = noting  # type: ignore[method-assign]  # to see what is asked for
    await manager.start()
    await asyncio.sleep(0)
    await manager.stop()
    assert asked == [7]
