"""States in a shared cache: what readers see when writers die, and when Redis is away."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from base04.testing.proxy import FaultyProxy
from base04.testing.servers.redis import RedisServer
from base04_builtin.database.sqlite import SqliteDatabaseManager
from base04_builtin.redis.memory import MemoryRedisManager, MemoryRedisSettings
from base04_builtin.redis.server import ServerRedisManager
from base04_builtin.state.cache import PUT, StateCache
from base04_builtin.state.database import DatabaseStateManager
from base04_builtin.state.tables import STATES
from base04_hookspecs.errors import ManagerUnavailable
from base04_hookspecs.redis import RedisManager, key_name
from redis_kit import started
from state_kit import Child, sqlite, states, there, until

KEY = key_name("state", "s")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabaseManager]:
    async with sqlite(tmp_path) as manager:
        yield manager


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[ServerRedisManager]:
    server.ask("FLUSHALL")
    async with started(server.url) as manager:
        yield manager


async def past_the_manager(database: SqliteDatabaseManager, version: int) -> None:
    """Change a state as a writer does who cannot tell the cache."""
    data = {"data": {"a": version}, "version": version}
    await database.execute_transaction([{"type": "update", "table": STATES.name, "data": data}])


async def test_reads_come_from_the_cache(database: SqliteDatabaseManager, redis: ServerRedisManager) -> None:
    async with states(database, redis) as manager:
        await manager.register_state("s", "session", {"a": 1})
        assert await redis.get(KEY) == [1, await there(manager)]
        await past_the_manager(database, 2)
        assert (await there(manager))["data"] == {"a": 1}
        assert (await there(manager, fresh=True))["data"] == {"a": 2}
        assert (await there(manager))["data"] == {"a": 2}


async def test_changes_and_deletions_reach_the_cache(
    database: SqliteDatabaseManager, redis: ServerRedisManager
) -> None:
    async with states(database, redis) as manager, states(database, redis) as other:
        await manager.register_state("s", "session", {"a": 1})
        assert (await there(other))["version"] == 1
        await manager.update_state("s", {"a": 2})
        assert (await there(other))["data"] == {"a": 2}
        await manager.delete_state("s")
        assert await redis.get(KEY) == [3, None]
        assert await other.get_state("s") is None
        await other.register_state("s", "session", {})
        assert (await there(manager))["version"] == 4


async def test_writer_that_dies_before_it_writes_to_the_cache_leaves_no_old_state(
    tmp_path: Path, server: RedisServer, redis: ServerRedisManager
) -> None:
    async with sqlite(tmp_path) as database, states(database, redis, cache_ttl=1000) as manager:
        await manager.register_state("s", "session", {"a": 1})
        assert (await there(manager))["version"] == 1
        path = f"sqlite:{tmp_path / 'base04.sqlite3'}"
        async with Child(do="die", state_id="s", database=path, redis=server.url) as child:
            assert await child.ended() == -signal.SIGKILL
        assert await redis.get(KEY) == [2]
        slow = StateCache(redis, 1000, 5)  # a reader that read the database before, and comes to the cache only now
        old = {**await there(manager), "version": 1}
        await slow.keep("s", 1, old)  # type: ignore[arg-type]  # a state as any other
        assert (await there(manager))["data"] == {"a": 2}
        assert await redis.get(KEY) == [2, await there(manager)]


async def test_writer_without_redis_leaves_an_old_state_for_a_bounded_time(
    tmp_path: Path, server: RedisServer, redis: ServerRedisManager
) -> None:
    async with (
        sqlite(tmp_path) as database,
        FaultyProxy(server.address) as proxy,
        started(f"redis://{proxy.host}:{proxy.port}", timeout=0.5) as cut_off,
        states(database, cut_off) as writer,
        states(database, redis, cache_ttl=5) as reader,
    ):
        await reader.register_state("s", "session", {"a": 1})
        assert (await there(reader))["version"] == 1
        await proxy.refuse()
        assert await writer.update_state("s", {"a": 2}) is True
        assert (await writer.health_check())["status"] == "degraded"
        assert (await there(writer, fresh=True))["data"] == {"a": 2}
        assert (await there(reader))["data"] == {"a": 1}
        await until(lambda: _version_is(reader, 2))


async def test_old_state_ends_with_its_time_in_the_cache(
    database: SqliteDatabaseManager, redis: ServerRedisManager
) -> None:
    async with states(database, redis, cache_ttl=0.5) as manager:
        await manager.register_state("s", "session", {"a": 1})
        await past_the_manager(database, 2)
        await until(lambda: _version_is(manager, 2))


@pytest.mark.parametrize("fault", ["refuse", "half_open"])
async def test_broken_cache_fails_nothing(
    tmp_path: Path, server: RedisServer, fault: str, redis: ServerRedisManager
) -> None:
    async with (
        sqlite(tmp_path) as database,
        FaultyProxy(server.address) as proxy,
        started(f"redis://{proxy.host}:{proxy.port}", timeout=0.5) as broken,
        states(database, broken, cache_timeout=0.2) as manager,
    ):
        await manager.register_state("s", "session", {})
        if fault == "refuse":
            await proxy.refuse()
        else:
            proxy.half_open()
        for n in range(5):
            assert await manager.update_state("s", {"n": n}) is True
        assert (await there(manager))["data"] == {"n": 4}
        report = await manager.health_check()
        assert (report["status"], report["dependencies"]["redis"]) == ("degraded", "unhealthy")
        await proxy.pass_all()

        async def healthy() -> bool:
            await there(manager)
            return (await manager.health_check())["status"] == "healthy"

        await until(healthy)


async def test_redis_that_is_restarted_empty_loses_nothing(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        async with (
            sqlite(tmp_path) as database,
            started(server.url, timeout=0.5) as redis,
            states(database, redis, cache_timeout=0.2) as manager,
        ):
            await manager.register_state("s", "session", {})
            await manager.update_state("s", {"n": 1})
            await asyncio.to_thread(server.kill)
            await manager.update_state("s", {"n": 2})
            await asyncio.to_thread(server.start)
            await manager.update_state("s", {"n": 3})
            assert (await there(manager))["data"] == {"n": 3}
            assert [change["version"] for change in await manager.get_state_history("s")] == [4, 3, 2, 1]


async def test_cache_of_one_process_alone_is_not_used(database: SqliteDatabaseManager) -> None:
    redis = MemoryRedisManager(MemoryRedisSettings())
    await redis.start()
    async with states(database, redis) as manager:
        await manager.register_state("s", "session", {})
        assert await redis.get(KEY) is None
    await redis.stop()


async def test_expired_state_in_the_cache_says_so(database: SqliteDatabaseManager, redis: ServerRedisManager) -> None:
    async with states(database, redis, sweep_interval=1000) as manager:
        await manager.register_state("s", "session", {}, ttl=0.05)
        await there(manager)
        await until(lambda: _status_is(manager, "expired"))


@pytest.mark.parametrize("kind", ["memory", "server"])
async def test_key_never_goes_back(kind: str, server: RedisServer, redis: ServerRedisManager) -> None:
    store: RedisManager = redis if kind == "server" else MemoryRedisManager(MemoryRedisSettings())
    if kind == "memory":
        await store.start()
    offers: list[tuple[int, str, str, int]] = [
        (2, "state", "[2,{}]", 1),
        (1, "state", "[1,{}]", 0),
        (1, "tombstone", "[1]", 0),
        (2, "tombstone", "[2]", 0),
        (3, "tombstone", "[3]", 1),
        (2, "state", "[2,{}]", 0),
        (3, "tombstone", "[3]", 1),
        (3, "state", "[3,null]", 1),
        (12, "tombstone", "[12]", 1),
        (9, "state", "[9,{}]", 0),
    ]
    for version, what, text, expected in offers:
        assert await store.run_script(PUT, [KEY], [version, what, 10_000, text]) == expected, (version, what)
    assert await store.get(KEY) == [12]
    if kind == "memory":
        await store.stop()


async def test_processes_wake_each_other(
    database: SqliteDatabaseManager, redis: ServerRedisManager, tmp_path: Path
) -> None:
    async with (
        sqlite(tmp_path) as other_database,
        states(database, redis, poll_interval=1000) as one,
        states(other_database, redis, poll_interval=1000) as other,
    ):
        await one.register_state("s", "session", {})
        watch = other.watch("s", from_version=1)
        coming = asyncio.ensure_future(anext(watch))
        await until(lambda: _is_waiting(other))
        await one.update_state("s", {"a": 1})
        async with asyncio.timeout(30):
            assert (await coming)["after"] == {"a": 1}


async def test_redis_that_is_away_at_the_start_is_no_obstacle(tmp_path: Path, server: RedisServer) -> None:
    async with (
        sqlite(tmp_path) as database,
        FaultyProxy(server.address) as proxy,
        started(f"redis://{proxy.host}:{proxy.port}", timeout=0.5) as redis,
    ):
        await proxy.refuse()
        with pytest.raises(ManagerUnavailable):
            await redis.get("anything")
        async with states(database, redis, cache_timeout=0.2) as manager:
            assert await manager.register_state("s", "session", {}) is True


async def _version_is(manager: DatabaseStateManager, version: int) -> bool:
    return (await there(manager))["version"] == version


async def _status_is(manager: DatabaseStateManager, status: str) -> bool:
    return (await there(manager))["status"] == status


async def _is_waiting(manager: DatabaseStateManager) -> bool:
    listeners: list[Any] = manager._parts.wakeups._listeners
    return len(listeners) > 1
