"""Expiry, pruning and watching, as they happen by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from base04_builtin.database.sqlite import SqliteDatabaseManager
from base04_builtin.redis.memory import MemoryRedisManager, MemoryRedisSettings
from base04_builtin.state.database import DatabaseStateManager
from base04_builtin.state.housekeeping import LEAD, Leadership
from base04_builtin.state.tables import CARRYING_STATES, HISTORY, STATES
from base04_hookspecs.database import Column, TableSchema
from base04_hookspecs.errors import Conflict, HistoryPruned, VersionConflict
from base04_hookspecs.state import StateChange
from state_kit import sqlite, states, there, until


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabaseManager]:
    async with sqlite(tmp_path) as manager:
        yield manager


@pytest.fixture
async def redis() -> AsyncIterator[MemoryRedisManager]:
    manager = MemoryRedisManager(MemoryRedisSettings())
    await manager.start()
    yield manager
    await manager.stop()


async def test_state_expires_by_itself(database: SqliteDatabaseManager, redis: MemoryRedisManager) -> None:
    heard: list[StateChange] = []
    async with states(database, redis) as manager:
        await manager.register_callback("s", heard.append)
        await manager.register_state("s", "session", {"a": 1}, ["update"], ttl=0.05)
        await until(lambda: _version_is(manager, 2))
        expired, _ = await manager.get_state_history("s")
        assert (expired["transition"], expired["from_status"], expired["to_status"]) == ("expire", "active", "expired")
        assert (expired["before"], expired["after"], expired["actor"]) == ({"a": 1}, {"a": 1}, None)
        await until(lambda: _heard(heard, 2))
        assert (await there(manager))["status"] == "expired"


async def test_expiry_is_written_before_what_follows_it(database: SqliteDatabaseManager) -> None:
    async with states(database, sweep_interval=1000) as manager:
        await manager.register_state("s", "session", {}, ttl=0.01)
        await until(lambda: _is_expired(manager))
        assert (await there(manager))["version"] == 1
        with pytest.raises(Conflict, match="'expired'"):
            await manager.update_state("s", {})
        assert await manager.update_state("s", {}, "renew", expected_version=2, ttl=1000) is True
        assert [change["transition"] for change in await manager.get_state_history("s")] == [
            "renew",
            "expire",
            "create",
        ]


async def test_version_that_was_read_before_the_expiry_still_counts(database: SqliteDatabaseManager) -> None:
    async with states(database, sweep_interval=1000) as manager:
        await manager.register_state("s", "session", {}, ttl=0.01)
        await until(lambda: _is_expired(manager))
        with pytest.raises(VersionConflict) as caught:
            await manager.update_state("s", {}, "renew", expected_version=7, ttl=1000)
        assert caught.value.version == 1
        assert await manager.update_state("s", {}, "renew", expected_version=1, ttl=1000) is True
        assert (await there(manager))["version"] == 3


async def test_only_the_leader_sweeps(database: SqliteDatabaseManager, redis: MemoryRedisManager) -> None:
    other = Leadership(redis, "other", 1000)
    assert await other.take() is True
    async with states(database, redis) as manager:
        await manager.register_state("s", "session", {}, ttl=0.01)
        await until(lambda: _is_expired(manager))
        await asyncio.sleep(0.2)  # in which a leader would have swept
        assert (await there(manager))["version"] == 1
        await other.give_up()
        await until(lambda: _version_is(manager, 2))
        assert await other.take() is False
    assert await other.take() is True


async def test_leader_script_knows_its_own(redis: MemoryRedisManager) -> None:
    assert await redis.run_script(LEAD, ["k"], ["a", 1000]) == 1
    assert await redis.run_script(LEAD, ["k"], ["b", 1000]) == 0
    assert await redis.run_script(LEAD, ["k"], ["b", 0]) == 0
    assert await redis.run_script(LEAD, ["k"], ["a", 0]) == 1
    assert await redis.run_script(LEAD, ["k"], ["b", 1000]) == 1


async def test_history_is_pruned_by_count(database: SqliteDatabaseManager) -> None:
    async with states(database, history_limit=3) as manager:
        await manager.register_state("s", "session", {})
        for n in range(9):
            await manager.update_state("s", {"n": n})
        await until(lambda: _history_is(manager, [10, 9, 8]))
        with pytest.raises(HistoryPruned, match="from version 8 on"):
            await anext(manager.watch("s", from_version=3))
        assert (await anext(manager.watch("s", from_version=7)))["version"] == 8
        await manager.delete_state("s")
        await manager.register_state("s", "session", {})
        assert (await there(manager))["version"] == 12


async def test_history_is_pruned_by_age_but_for_the_last_change(database: SqliteDatabaseManager) -> None:
    async with states(database, history_age=0.1) as manager:
        await manager.register_state("s", "session", {})
        for _ in range(3):
            await manager.update_state("s", {})
        await until(lambda: _history_is(manager, [4]))
        await manager.delete_state("s")
        await until(lambda: _history_is(manager, [5]))
        await manager.register_state("s", "session", {})
        assert (await there(manager))["version"] == 6


async def test_undelivered_history_stays(database: SqliteDatabaseManager) -> None:
    def refuse(change: StateChange) -> None:
        if change["version"] == 2:
            raise RuntimeError("no")

    async with states(database, history_limit=1) as manager:
        await manager.register_callback("s", refuse, name="mailer")
        await manager.register_state("s", "session", {})
        for n in range(4):
            await manager.update_state("s", {"n": n})
        await until(lambda: _history_is(manager, [5, 4, 3, 2]))
        await until(lambda: _are_parked(manager, 1))
        [event] = await manager.get_events(status="parked")
        await manager.discard_event("mailer", event["event_id"])
        await until(lambda: _history_is(manager, [5]))


async def test_states_of_an_earlier_schema_expire_too(database: SqliteDatabaseManager) -> None:
    columns = tuple(column for column in STATES.columns if column.name != "sweep_at")
    old = TableSchema(STATES.name, columns, STATES.primary_key)

    async def made_then(manager: Any) -> None:
        await manager.ensure_table(old)
        await manager.ensure_table(HISTORY)

    await database.migrate("state", [made_then])
    row = {"state_type": "session", "status": "active", "version": 1, "data": {}, "created_at": 1.0, "updated_at": 1.0}
    await database.execute_transaction(
        [
            {"type": "insert", "table": STATES.name, "data": {"state_id": "s", "expires_at": 2.0, **row}},
            {"type": "insert", "table": STATES.name, "data": {"state_id": "lasting", **row}},
        ]
    )
    async with states(database) as manager:
        await until(lambda: _version_is(manager, 2))
        assert (await there(manager))["status"] == "expired"
        assert (await there(manager, "lasting"))["version"] == 1


def test_carrying_states_have_what_other_states_have() -> None:
    assert CARRYING_STATES.columns[: len(STATES.columns)] == STATES.columns
    assert Column("pending", "json") in CARRYING_STATES.columns


async def _version_is(manager: DatabaseStateManager, version: int) -> bool:
    return (await there(manager))["version"] == version


async def _is_expired(manager: DatabaseStateManager) -> bool:
    return (await there(manager))["status"] == "expired"


async def _history_is(manager: DatabaseStateManager, versions: list[int]) -> bool:
    return [change["version"] for change in await manager.get_state_history("s")] == versions


async def _are_parked(manager: DatabaseStateManager, number: int) -> bool:
    return len(await manager.get_events(status="parked")) == number


async def _heard(heard: list[StateChange], number: int) -> bool:
    return len(heard) == number
