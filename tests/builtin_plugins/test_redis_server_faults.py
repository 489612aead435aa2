"""The provider ``server`` when servers, networks and callers misbehave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from base04.testing.conformance.redis_scripts import ADD
from base04.testing.proxy import FaultyProxy
from base04.testing.servers.redis import RedisServer
from base04.testing.servers.redis_groups import SentinelGroup
from base04_builtin.redis.server import ServerRedisManager
from base04_hookspecs.errors import InvalidInput, ManagerError, ManagerUnavailable, OutcomeUnknown
from base04_hookspecs.redis import AtomicScript
from redis_kit import QUICK, WAIT_S, started, until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "server") as running:
        yield running


@asynccontextmanager
async def behind_proxy(server: RedisServer, **settings: Any) -> AsyncIterator[tuple[FaultyProxy, ServerRedisManager]]:
    async with (
        FaultyProxy(server.address) as proxy,
        started(f"redis://{proxy.host}:{proxy.port}", **settings) as manager,
    ):
        yield proxy, manager


async def serves(manager: ServerRedisManager) -> bool:
    try:
        return await manager.set("serves", 1)
    except ManagerUnavailable:
        return False


def containing(command: bytes) -> Callable[[bytes], bool]:
    return lambda request: command in request


@pytest.mark.parametrize("cut", [True, False])
async def test_incr_whose_reply_is_lost_counts_once(server: RedisServer, cut: bool) -> None:
    async with behind_proxy(server, reply_timeout=1.0) as (proxy, manager):
        await manager.incr("count", ttl=60)  # the server knows the script from now on
        for ttl, command in ((None, b"INCRBY"), (60, b"EVAL")):
            before = int(server.ask("GET", "count"))
            proxy.swallow_replies(matching=containing(command), times=1, cut=cut)
            with pytest.raises(OutcomeUnknown):
                await manager.incr("count", ttl=ttl)
            assert proxy.swallowed.is_set()
            assert int(server.ask("GET", "count")) == before + 1
            await proxy.pass_all()
            assert await manager.incr("count") == before + 2
        assert (await manager.health_check())["metrics"]["errors"] == 2


async def test_what_counts_is_never_sent_twice(server: RedisServer) -> None:
    async with behind_proxy(server) as (proxy, manager):
        await manager.run_script(ADD, ["sum"], [1])
        for call in (
            lambda: manager.run_script(ADD, ["sum"], [1]),
            lambda: manager.set("lock", 1, only_if_absent=True),
            lambda: manager.publish("news", 1),
        ):
            seen = proxy.accepted
            proxy.swallow_replies(times=1, cut=True)
            with pytest.raises(OutcomeUnknown):
                await call()
            assert proxy.accepted == seen
            await manager.get("anything")  # by a connection of its own, since that one is gone
        assert await manager.get("sum") == 2
        assert await manager.get("lock") == 1


async def test_what_does_no_harm_twice_is_sent_again(server: RedisServer) -> None:
    async with behind_proxy(server) as (proxy, manager):
        await manager.set("key", 1, tags=["tag"])
        for call, expected in (
            (lambda: manager.get("key"), 1),
            (lambda: manager.set("key", 2, ttl=60, tags=["tag"]), True),
            (lambda: manager.exists("key"), True),
            (lambda: manager.expire("key", 50), True),
            (lambda: manager.delete_by_prefix("nothing"), 0),
        ):
            proxy.swallow_replies(times=2, cut=True)
            assert await call() == expected
        proxy.swallow_replies(times=1, cut=True)
        assert 40 < (await manager.ttl("key") or 0) <= 50
        proxy.swallow_replies(times=1, cut=True)
        await manager.delete("key")  # whatever it says: its first try may have been the one that deleted
        assert await manager.exists("key") is False


async def test_reply_that_breaks_off_is_not_half_believed(server: RedisServer) -> None:
    async with behind_proxy(server) as (proxy, manager):
        await manager.set("key", "x" * 1000)
        proxy.swallow_replies(after_bytes=300, times=1, cut=True)
        assert await manager.get("key") == "x" * 1000


async def test_calls_go_on_through_kills_and_restarts(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "server", persistent=True) as server:
        async with started(server.url, timeout=2.0, connect_timeout=1.0, reply_timeout=1.0) as manager:
            acknowledged, refused, longest, over = 0, 0, 0.0, asyncio.Event()

            async def caller(number: int) -> None:
                nonlocal acknowledged, refused, longest
                turn = 0
                while not over.is_set():
                    turn += 1
                    began = time.monotonic()
                    try:
                        await manager.set(f"{number}:{turn}", turn)
                        acknowledged += 1
                    except ManagerUnavailable:
                        refused += 1
                        assert await manager.ping() in (True, False)
                    longest = max(longest, time.monotonic() - began)
                    await asyncio.sleep(0.001)

            callers = [asyncio.create_task(caller(number)) for number in range(8)]
            for _ in range(3):
                seen = acknowledged
                async with asyncio.timeout(WAIT_S):
                    while acknowledged < seen + 50:
                        await asyncio.sleep(0.01)
                    failed = refused
                    server.kill()
                    while refused == failed:
                        await asyncio.sleep(0.01)
                await asyncio.to_thread(server.start)
            await until(lambda: serves(manager))
            over.set()
            async with asyncio.timeout(WAIT_S):
                await asyncio.gather(*callers)
            assert longest < WAIT_S
            assert server.ask("DBSIZE") >= acknowledged
            assert (await manager.health_check())["status"] == "healthy"


async def test_paused_server_hangs_nobody(server: RedisServer) -> None:
    async def other(channel: str, message: Any) -> None:
        return None

    async with started(server.url, **QUICK) as manager:
        await manager.set("key", 1)
        server.pause()
        try:
            async with asyncio.timeout(WAIT_S):
                for call in (
                    lambda: manager.get("key"),
                    lambda: manager.set("key", 2),
                    lambda: manager.set("key", 2, tags=["tag"]),
                    lambda: manager.delete_by_prefix("key"),
                    lambda: manager.delete_by_tag("tag"),
                    lambda: manager.subscribe("news", other),
                ):
                    with pytest.raises(ManagerUnavailable):
                        await call()
                with pytest.raises(OutcomeUnknown):
                    await manager.incr("count")
                assert await manager.ping() is False
                health = await manager.health_check()
                assert health["status"] == "unhealthy"
                assert health["metrics"]["errors"] >= 6
        finally:
            server.resume()
        await until(lambda: serves(manager))
        assert await manager.subscribe("news", other) is True
        assert (await manager.health_check())["status"] == "healthy"


async def test_stop_does_not_wait_for_a_paused_server(server: RedisServer) -> None:
    async def callback(channel: str, message: Any) -> None:
        return None

    async with started(server.url, **QUICK) as manager:
        await manager.subscribe("news", callback)
        await manager.get("key")
        server.pause()
        try:
            async with asyncio.timeout(WAIT_S):
                await manager.stop()
        finally:
            server.resume()
        with pytest.raises(ManagerUnavailable):
            await manager.get("key")
        assert (await manager.health_check())["status"] == "unhealthy"
        assert await manager.ping() is False


async def test_full_pool_makes_wait_and_then_says_so(server: RedisServer) -> None:
    async with behind_proxy(server, pool_size=2, pool_timeout=0.2) as (proxy, manager):
        await asyncio.gather(manager.set("a", 1), manager.set("b", 2))
        proxy.delay(0.005)
        assert await asyncio.gather(*(manager.get("a") for _ in range(10))) == [1] * 10
        assert proxy.connections <= 2
        proxy.half_open()
        holding = [asyncio.create_task(manager.get(key)) for key in ("a", "b")]
        await until(lambda: all_busy(manager))
        with pytest.raises(ManagerUnavailable, match="pool_size"):
            await manager.get("a")
        health = await manager.health_check()
        assert health["status"] in ("degraded", "unhealthy")
        assert "all connections" in health["details"]
        await proxy.pass_all()
        assert await asyncio.gather(*holding) == [1, 2]
        assert await manager.get("a") == 1


async def all_busy(manager: ServerRedisManager) -> bool:
    topology = manager._topology
    assert topology is not None
    return all(node.busy == node.size for node in topology.masters())


async def test_cancelled_calls_leave_no_reply_behind(server: RedisServer) -> None:
    async with behind_proxy(server, pool_size=3) as (proxy, manager):
        for number in range(20):
            await manager.set(f"key{number}", number)
        proxy.delay(0.002)
        for turn in range(1000):
            task = asyncio.create_task(manager.get(f"key{turn % 20}"))
            for _ in range(turn % 7):
                await asyncio.sleep(0)
            if turn % 50 == 0:
                await asyncio.sleep(0.003)
            task.cancel()
            if turn % 10 == 0:
                await asyncio.gather(task, return_exceptions=True)
        await proxy.pass_all()
        got = await asyncio.gather(*(manager.get(f"key{number}") for number in range(20)))
        assert got == list(range(20))
        metrics = (await manager.health_check())["metrics"]
        assert (metrics["connections_busy"], metrics["errors"]) == (0, 0)
        assert metrics["connections"] <= 3
        await until(lambda: as_many(proxy, int(metrics["connections"])))


async def as_many(proxy: FaultyProxy, connections: int) -> bool:
    return proxy.connections == connections


async def test_cancelled_wait_for_the_pool_takes_no_place(server: RedisServer) -> None:
    async with behind_proxy(server, pool_size=1) as (proxy, manager):
        await manager.set("key", 1)
        proxy.half_open()
        holding = asyncio.create_task(manager.get("key"))
        await until(lambda: all_busy(manager))
        waiting = [asyncio.create_task(manager.get("key")) for _ in range(50)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await proxy.pass_all()
        assert await holding == 1
        assert await manager.get("key") == 1


async def test_connection_that_the_server_closed_is_not_used(server: RedisServer) -> None:
    async with started(server.url, retries=0) as manager:
        await manager.set("key", 1)
        server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.sleep(0.05)  # until the end of the stream has arrived
        assert await manager.incr("key") == 2


async def test_refused_connections_are_tried_again_whatever_the_command(server: RedisServer) -> None:
    async with behind_proxy(server, retries=20) as (proxy, manager):
        await manager.get("key")
        await proxy.refuse()
        counting = asyncio.create_task(manager.incr("key"))
        await asyncio.sleep(0.05)
        await proxy.pass_all()
        assert await counting == 1


async def test_loading_server_is_waited_for(tmp_path: Path) -> None:
    slow = {"key-load-delay": "2000", "loading-process-events-interval-bytes": "1024"}
    with RedisServer(tmp_path / "server", options=slow, version=(7, 0)) as server:
        with server.client() as client:
            client.run("for i = 1, 300 do redis.call('SET', i, string.rep('x', 1000)) end", [], [])
            client.command("SAVE")
        async with started(server.url, retries=20) as manager:
            assert await manager.incr("count") == 1
            server.kill()
            assert await manager.ping() is False  # its connection is gone, so that nothing can be sent on it and lost
            starting = asyncio.create_task(asyncio.to_thread(server.start))
            assert await manager.incr("count") == 1  # refused, then told to wait, and counted once
            await starting


async def test_server_without_room_says_so(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "server", options={"maxmemory": "30mb"}) as server:
        async with started(server.url) as manager:
            await manager.set("key", "old")
            await manager.set("big", "x" * 500_000)
            server.ask("CONFIG", "SET", "maxmemory", "1mb")
            for call in (
                lambda: manager.set("key", "new"),
                lambda: manager.incr("count"),
                lambda: manager.incr("count", ttl=5),
                lambda: manager.set("key", "new", tags=["tag"]),
                lambda: manager.run_script(ADD, ["count"], [1]),
            ):
                with pytest.raises(ManagerUnavailable, match="no room"):
                    await call()
            assert await manager.get("key") == "old"
            assert await manager.delete_by_prefix("big") > 0
            server.ask("CONFIG", "SET", "maxmemory", "30mb")
            assert await manager.set("key", "new") is True
            assert (await manager.health_check())["metrics"]["max_memory_bytes"] == 30 * 2**20


async def test_value_too_large_is_refused_before_it_is_sent(server: RedisServer) -> None:
    async with behind_proxy(server, max_value_bytes=1000) as (proxy, manager):
        proxy.half_open()
        with pytest.raises(InvalidInput, match="max_value_bytes"):
            await manager.set("key", "x" * 1000)


async def test_read_only_replica_is_told(server: RedisServer, tmp_path: Path) -> None:
    with RedisServer(tmp_path / "replica") as replica:
        replica.ask("REPLICAOF", server.host, server.port)
        async with started(replica.url, retries=1) as manager:
            with pytest.raises(ManagerUnavailable, match="read only replica"):
                await manager.set("key", 1)
            with pytest.raises(ManagerUnavailable, match="read only replica"):
                await manager.run_script(ADD, ["key"], [1])
            health = await manager.health_check()
            assert health["status"] == "degraded"
            replica.ask("REPLICAOF", "NO", "ONE")
            assert await manager.set("key", 1) is True


async def test_values_of_other_programs_are_clear_errors(server: RedisServer) -> None:
    server.ask("LPUSH", "list", "a")
    server.ask("SET", "text", "hello")
    server.ask("SET", "spaces", " 7 ")
    async with started(server.url) as manager:
        with pytest.raises(ManagerError, match="something else than a JSON value"):
            await manager.get("list")
        with pytest.raises(InvalidInput):
            await manager.incr("list")
        with pytest.raises(InvalidInput):
            await manager.incr("list", ttl=5)
        with pytest.raises(ManagerError, match="'text' is not JSON"):
            await manager.get("text")
        with pytest.raises(InvalidInput):
            await manager.incr("spaces")
        assert await manager.exists("list") is True
        assert await manager.expire("list", 60) is True
        assert await manager.delete("list") is True
        assert await manager.set("text", 1) is True


async def test_script_is_known_again_after_a_restart(server: RedisServer) -> None:
    async with started(server.url, retries=20) as manager:
        assert await manager.run_script(ADD, ["sum"], [1]) == 1
        server.ask("SCRIPT", "FLUSH")
        assert await manager.run_script(ADD, ["sum"], [1]) == 2
        await asyncio.to_thread(server.restart)
        assert await manager.run_script(ADD, ["sum"], [1]) == 1


async def test_script_that_never_ends_is_given_up(server: RedisServer) -> None:
    endless = AtomicScript("endless", "while true do end", lambda store, keys, args: None)
    server.ask("CONFIG", "SET", "lua-time-limit", "100")
    async with started(server.url, **QUICK) as manager:
        with pytest.raises(OutcomeUnknown):
            await manager.run_script(endless, ["key"], [])
        with pytest.raises(ManagerUnavailable):
            await manager.get("key")
        assert (await manager.health_check())["status"] == "unhealthy"
        server.ask("SCRIPT", "KILL")
        await until(lambda: serves(manager))


async def test_changed_password_is_told(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "server", password="old") as server:
        async with started(server.url, password="old") as manager:
            await manager.set("key", 1)
            with server.client() as client:
                client.command("CONFIG", "SET", "requirepass", "new")
                client.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            server.password = "new"
            with pytest.raises(ManagerUnavailable, match="password"):
                await manager.set("key", 2)
        async with started(server.url, password="new") as manager:
            assert await manager.get("key") == 1


async def test_calls_follow_the_sentinels_to_the_next_master(tmp_path: Path) -> None:
    with SentinelGroup(tmp_path, sentinels=3) as group:
        async with started(group.url, timeout=3.0, connect_timeout=1.0, reply_timeout=1.0) as manager:
            await manager.set("key", 1)
            got: list[Any] = []
            told = asyncio.Event()

            async def callback(channel: str, message: Any) -> None:
                got.append(message)
                told.set()

            async def on_gap(channel: str) -> None:
                got.append("gap")
                told.set()

            await manager.subscribe("news", callback, on_gap=on_gap)
            former = group.master
            former.kill()
            with pytest.raises(ManagerUnavailable):
                await manager.set("key", 2)
            await asyncio.to_thread(group.wait_for_failover, former)
            await until(lambda: serves(manager))
            await asyncio.wait_for(told.wait(), WAIT_S)
            assert got == ["gap"]
            told.clear()
            await manager.publish("news", "after")
            await asyncio.wait_for(told.wait(), WAIT_S)
            assert got == ["gap", "after"]
            health = await manager.health_check()
            assert health["status"] == "healthy"
            group.sentinels[0].kill()
            assert await manager.set("key", 3) is True
