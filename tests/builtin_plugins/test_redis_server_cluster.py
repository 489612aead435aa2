"""The provider ``server`` on a cluster that moves, loses and replaces its nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from base04.testing.conformance.redis_scripts import ADD
from base04.testing.servers.redis_groups import RedisCluster, slot_of
from base04_builtin.redis.server import ServerRedisManager
from base04_hookspecs.errors import InvalidInput, ManagerUnavailable
from base04_hookspecs.redis import key_name
from redis_kit import WAIT_S, started, until

KEYS = [f"key{number}" for number in range(100)]
PROMPT: dict[str, Any] = {"timeout": 3.0, "reply_timeout": 1.0, "connect_timeout": 1.0}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path / "cluster") as running:
        yield running


async def serves(manager: ServerRedisManager) -> bool:
    try:
        return all([await manager.set(key, 1) for key in KEYS[:20]])
    except ManagerUnavailable:
        return False


async def test_one_node_is_enough_to_find_the_others(cluster: RedisCluster) -> None:
    async with started(cluster.masters[0].url, cluster=True) as manager:
        for number, key in enumerate(KEYS):
            await manager.set(key, number)
        assert [await manager.get(key) for key in KEYS] == list(range(len(KEYS)))
        assert all(node.ask("DBSIZE") > 0 for node in cluster.masters)
        health = await manager.health_check()
        assert health["status"] == "healthy"
        assert health["metrics"]["nodes_answering"] == 3


async def test_prefixes_and_tags_reach_all_nodes(cluster: RedisCluster) -> None:
    async with started(cluster.url) as manager:
        for number, key in enumerate(KEYS):
            await manager.set(key, number, tags=["even" if number % 2 == 0 else "odd", "all"])
        assert await manager.delete_by_tag("even") == 50
        assert await manager.delete_by_prefix("key1") == 6
        assert await manager.delete_by_tag("all") == 44
        assert await manager.delete_by_tag("odd") == 0
        assert not any([await manager.exists(key) for key in KEYS])


async def test_keys_of_a_script_must_share_a_slot(cluster: RedisCluster) -> None:
    async with started(cluster.url) as manager:
        with pytest.raises(InvalidInput, match="slot"):
            await manager.run_script(ADD, ["a", "b"], [1])
        assert await manager.run_script(ADD, [key_name("a", slot="s"), key_name("b", slot="s")], [1]) == 1


async def test_moved_slot_is_found(cluster: RedisCluster) -> None:
    async with started(cluster.url) as manager:
        heard, news = list[Any](), asyncio.Event()

        async def callback(channel: str, message: Any) -> None:
            heard.append(message)
            news.set()

        async def on_gap(channel: str) -> None:
            await callback(channel, "gap")

        await manager.incr("counter")
        await manager.subscribe("counter", callback, on_gap=on_gap)
        slot = slot_of("counter")
        for target in [node for node in cluster.masters if node is not cluster.owner(slot)]:
            await asyncio.to_thread(cluster.move_slot, slot, target)
            await asyncio.wait_for(news.wait(), WAIT_S)
            news.clear()
            assert await manager.incr("counter") > 1
            await manager.publish("counter", "moved")
            await asyncio.wait_for(news.wait(), WAIT_S)
            news.clear()
        assert await manager.get("counter") == 3
        assert heard == ["gap", "moved"] * 2
        assert (await manager.health_check())["metrics"]["errors"] == 0


async def test_half_moved_slot_is_asked_at_both_ends(cluster: RedisCluster) -> None:
    async with started(cluster.url) as manager:
        slot = slot_of("k")
        here, there = "{k}:here", "{k}:there"
        await manager.set(here, 1)
        target = next(node for node in cluster.masters if node is not cluster.owner(slot))
        cluster.begin_move(slot, target)
        assert await manager.get(here) == 1
        assert await asyncio.gather(*(manager.incr(there) for _ in range(50))) != []
        assert await manager.get(there) == 50
        assert await manager.incr(here) == 2
        cluster.move_slot(slot, target)
        assert await manager.get(here) == 2
        assert await manager.incr(there) == 51
        assert (await manager.health_check())["metrics"]["errors"] == 0


async def test_counts_are_exact_while_slots_move(cluster: RedisCluster) -> None:
    async with started(cluster.url) as manager:
        over, counted = asyncio.Event(), 0

        async def count() -> None:
            nonlocal counted
            while not over.is_set():
                await manager.incr("counter")
                counted += 1

        counting = [asyncio.create_task(count()) for _ in range(8)]
        slot = slot_of("counter")
        for _ in range(2):
            for target in [node for node in cluster.masters if node is not cluster.owner(slot)]:
                await asyncio.to_thread(cluster.move_slot, slot, target)
        over.set()
        await asyncio.gather(*counting)
        assert await manager.get("counter") == counted


async def test_killed_node_fails_its_own_keys_alone_until_it_is_back(cluster: RedisCluster) -> None:
    async with started(cluster.url, **PROMPT) as manager:
        owners = {key: cluster.owner(slot_of(key)) for key in KEYS}
        for node in cluster.masters:
            node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
        victim = owners[KEYS[0]]
        victim.kill()
        for key in KEYS:
            if owners[key] is not victim:
                assert await manager.set(key, 1) is True
        with pytest.raises(ManagerUnavailable):
            await manager.set(KEYS[0], 1)
        assert await manager.ping() is False
        health = await manager.health_check()
        assert health["status"] == "degraded"
        assert health["metrics"]["nodes_answering"] == 2
        await asyncio.to_thread(victim.start)
        await asyncio.to_thread(cluster.wait_until_ok)
        await until(lambda: serves(manager))
        assert (await manager.health_check())["status"] == "healthy"


async def test_replica_takes_over_under_load(tmp_path: Path) -> None:
    with RedisCluster(tmp_path / "cluster", replicas=1) as cluster:
        async with started(cluster.url, **PROMPT) as manager:
            over, acknowledged, refused = asyncio.Event(), 0, 0
            heard: list[Any] = []
            gap = asyncio.Event()

            async def callback(channel: str, message: Any) -> None:
                heard.append(message)

            async def on_gap(channel: str) -> None:
                gap.set()

            async def load(number: int) -> None:
                nonlocal acknowledged, refused
                while not over.is_set():
                    try:
                        await asyncio.wait_for(manager.set(f"load{number}:{acknowledged}", number), WAIT_S)
                        acknowledged += 1
                    except ManagerUnavailable:
                        refused += 1
                    await asyncio.sleep(0.005)

            await manager.subscribe(KEYS[0], callback, on_gap=on_gap)
            loading = [asyncio.create_task(load(number)) for number in range(6)]
            victim = cluster.owner(slot_of(KEYS[0]))
            await asyncio.sleep(0.1)
            victim.kill()
            await until(lambda: serves(manager))
            over.set()
            await asyncio.gather(*loading)
            assert acknowledged > 0
            await asyncio.wait_for(gap.wait(), WAIT_S)
            await until(lambda: heard_one(manager, heard))


async def heard_one(manager: ServerRedisManager, heard: list[Any]) -> bool:
    try:
        await manager.publish(KEYS[0], "after")
    except ManagerUnavailable:
        return False
    return "after" in heard
