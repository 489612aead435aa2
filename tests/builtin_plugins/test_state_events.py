"""Durable callbacks: what survives, what is retried, what is parked, and who delivers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from base04_builtin.database.sqlite import SqliteDatabaseManager
from base04_builtin.state.database import DatabaseStateManager
from base04_builtin.state.leases import Lease
from base04_builtin.state.tables import DELIVERIES, OUTBOX
from base04_hookspecs.errors import InvalidInput
from base04_hookspecs.state import StateChange
from state_kit import WAIT_S, sqlite, states, until


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabaseManager]:
    async with sqlite(tmp_path) as manager:
        yield manager


class Ear:
    """A durable callback that fails for the versions it is told to, until it is told otherwise."""

    def __init__(self, *failing: int) -> None:
        self.failing = set(failing)
        self.heard: list[StateChange] = []
        self._waiting: dict[tuple[str, int], asyncio.Event] = {}

    @property
    def versions(self) -> list[int]:
        return [change["version"] for change in self.heard]

    async def __call__(self, change: StateChange) -> None:
        if change["version"] in self.failing:
            raise RuntimeError(f"not {change['version']}")
        self.heard.append(change)
        self._event(change["state_id"], change["version"]).set()

    async def until(self, version: int, state_id: str = "s") -> None:
        async with asyncio.timeout(WAIT_S):
            await self._event(state_id, version).wait()

    def _event(self, state_id: str, version: int) -> asyncio.Event:
        return self._waiting.setdefault((state_id, version), asyncio.Event())


async def changes(manager: DatabaseStateManager, count: int, state_id: str = "s") -> None:
    """Register a state, and change it until it has a version."""
    await manager.register_state(state_id, "session", {})
    for n in range(2, count + 1):
        await manager.update_state(state_id, {"n": n})


async def test_events_wait_for_a_restart(database: SqliteDatabaseManager) -> None:
    first, second = Ear(), Ear()
    async with states(database) as manager:
        await manager.register_callback("s", first, name="mailer")
        await changes(manager, 2)
        await first.until(2)
    async with states(database) as manager:  # nobody has registered the name here
        await manager.update_state("s", {"n": 3})
        await until(lambda: _is_routed(database))
        assert [event["version"] for event in await manager.get_events("mailer")] == [3]
    async with states(database) as manager:
        await manager.register_callback("s", second, name="mailer")
        await second.until(3)
        assert second.versions == [3]
        await until(lambda: _is_delivered(database))


async def test_event_that_was_not_acknowledged_comes_again(database: SqliteDatabaseManager) -> None:
    entered = asyncio.Event()
    ids: list[str] = []

    async def stuck(change: StateChange) -> None:
        ids.append(change["event_id"])
        entered.set()
        await asyncio.Event().wait()

    async with states(database) as manager:
        await manager.register_callback("s", stuck, name="mailer")
        await changes(manager, 1)
        await entered.wait()
        [consumer] = manager._parts.durable._consumers.values()
        assert consumer._task is not None
        consumer._task.cancel()  # as a process ends that does not come to an end by itself
    ear = Ear()
    async with states(database) as manager:
        await manager.register_callback("s", ear, name="mailer")
        await ear.until(1)
        assert [change["event_id"] for change in ear.heard] == ids


async def test_failing_event_is_retried_before_its_successors(database: SqliteDatabaseManager) -> None:
    ear = Ear(1)
    async with states(database, callback_attempts=1000) as manager:
        await manager.register_callback("s", ear, name="mailer")
        await changes(manager, 3)
        await until(lambda: _has_failed(manager))
        await changes(manager, 1, "other")
        assert ear.heard == []
        ear.failing.clear()
        await ear.until(3)
        assert ear.versions == [1, 2, 3]
        assert all("gap" not in change for change in ear.heard)


async def test_failing_state_holds_up_no_other(database: SqliteDatabaseManager) -> None:
    ear = Ear(1)
    async with states(database, callback_attempts=1000) as manager:
        await manager.register_callback("type:session", ear, name="mailer")
        await changes(manager, 1, "bad")
        await until(lambda: _has_failed(manager))
        await changes(manager, 2, "good")
        ear.failing.clear()
        await ear.until(2, "good")
        await ear.until(1, "bad")


async def test_event_that_keeps_failing_is_parked_and_leaves_a_gap(database: SqliteDatabaseManager) -> None:
    ear = Ear(2)
    async with states(database) as manager:
        await manager.register_callback("s", ear, name="mailer")
        await changes(manager, 4)
        await ear.until(4)
        assert ear.versions == [1, 3, 4]
        assert [change.get("gap") for change in ear.heard] == [None, [2], [2]]
        [event] = await manager.get_events(status="parked")
        assert (event["name"], event["state_id"], event["version"]) == ("mailer", "s", 2)
        assert (event["status"], event["attempts"], event["error"]) == ("parked", 3, "RuntimeError: not 2")
        assert await manager.get_events(status="waiting") == []

        ear.failing.clear()
        assert await manager.retry_event("mailer", event["event_id"]) is True
        await ear.until(2)
        assert ear.heard[-1]["event_id"] == event["event_id"]
        await manager.update_state("s", {})
        await ear.until(5)
        assert "gap" not in ear.heard[-1]
        assert await manager.retry_event("mailer", event["event_id"]) is False


async def test_parked_event_can_be_discarded(database: SqliteDatabaseManager) -> None:
    ear = Ear(1)
    async with states(database) as manager:
        await manager.register_callback("s", ear, name="mailer")
        await changes(manager, 2)
        await ear.until(2)
        [event] = await manager.get_events("mailer", status="parked")
        assert await manager.discard_event("other", event["event_id"]) is False
        assert await manager.discard_event("mailer", event["event_id"]) is True
        assert await manager.discard_event("mailer", event["event_id"]) is False
        await manager.update_state("s", {})
        await ear.until(3)
        assert "gap" not in ear.heard[-1]


async def test_callback_that_takes_too_long_has_failed(database: SqliteDatabaseManager) -> None:
    async def slow(change: StateChange) -> None:
        await asyncio.Event().wait()

    async with states(database, callback_timeout=0.05, callback_attempts=1) as manager:
        await manager.register_callback("s", slow, name="mailer")
        await changes(manager, 1)
        await until(lambda: _are_parked(manager, 1))
        [event] = await manager.get_events()
        assert event["error"] == "TimeoutError"
        assert (await manager.health_check())["metrics"]["callback_failures"] == 1


async def test_one_of_two_processes_delivers(database: SqliteDatabaseManager, tmp_path: Path) -> None:
    ears = Ear(), Ear()
    async with sqlite(tmp_path) as other, states(database, lease=30) as first, states(other, lease=30) as second:
        await first.register_callback("type:session", ears[0], name="mailer")
        await changes(first, 2)
        await ears[0].until(2)
        await second.register_callback("type:session", ears[1], name="mailer")
        await asyncio.gather(changes(first, 10, "a"), changes(second, 10, "b"))
        await ears[0].until(10, "a")
        await ears[0].until(10, "b")
        assert ears[1].heard == []
        await first.unregister_callback("type:session", ears[0])  # which gives the lease back
        await changes(first, 1, "c")
        await ears[1].until(1, "c")


async def test_lease_of_who_falls_silent_is_taken_over(database: SqliteDatabaseManager) -> None:
    silent = Lease(database, "callback:mailer", "dead", 0.5)
    async with states(database) as manager:
        assert await silent.hold() is True
        ear = Ear()
        await manager.register_callback("s", ear, name="mailer")
        await changes(manager, 1)
        await ear.until(1)
        assert await silent.hold() is False
        assert not silent.held


async def test_everything_routed_leaves_the_outbox(database: SqliteDatabaseManager) -> None:
    async with states(database) as manager:
        await changes(manager, 3)
        await until(lambda: _is_routed(database))
        assert await database.count(DELIVERIES.name) == 0


async def test_name_takes_the_pattern_that_was_registered_last(database: SqliteDatabaseManager) -> None:
    ear = Ear()
    async with states(database) as manager:
        assert await manager.register_callback("a*", ear, name="mailer") is True
        assert await manager.register_callback("b*", ear, name="mailer") is True
        await changes(manager, 1, "a1")
        await changes(manager, 1, "b1")
        await ear.until(1, "b1")
        assert [change["state_id"] for change in ear.heard] == ["b1"]


async def test_status_that_is_none_is_refused(database: SqliteDatabaseManager) -> None:
    async with states(database) as manager:
        with pytest.raises(InvalidInput, match="parked"):
            await manager.get_events(status="lost")  # type: ignore[arg-type]  # what a caller may do
        with pytest.raises(InvalidInput):
            await manager.get_events(limit=-1)


async def _is_routed(database: SqliteDatabaseManager) -> bool:
    return await database.count(OUTBOX.name) == 0


async def _is_delivered(database: SqliteDatabaseManager) -> bool:
    return await database.count(DELIVERIES.name) == 0


async def _has_failed(manager: DatabaseStateManager) -> bool:
    return any(event["attempts"] for event in await manager.get_events())


async def _are_parked(manager: DatabaseStateManager, number: int) -> bool:
    return len(await manager.get_events(status="parked")) == number
