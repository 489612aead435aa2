"""The provider ``gcra`` against floods, many processes, and clocks that are wrong."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

import rate_limiter_worker
from base04.testing.servers.redis import RedisServer
from base04_builtin.rate_limiter.counts import Counts
from base04_builtin.rate_limiter.meter import meter_for
from base04_builtin.rate_limiter.plan import rule_for
from base04_hookspecs.rate_limiter import RateLimit, RateLimiterManager
from rate_limiter_kit import limiter, running, sqlite_in
from redis_kit import manager_for

BANNED = "203.0.113.9"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


def workers(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run a process for each task, all at the same time, and return what they say."""
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, rate_limiter_worker.__file__, json.dumps(task)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for task in tasks
        ]
        for process in processes:
            assert process.stdout is not None
            assert "ready\n" in iter(process.stdout.readline, "")
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [json.loads(process.communicate(timeout=120)[0].splitlines()[-1]) for process in processes]


@pytest.mark.parametrize("skews", [[0, 0, 0, 0], [-60, 0, 60, 3600]], ids=["right clocks", "wrong clocks"])
async def test_processes_on_one_redis_admit_exactly_the_limit(
    redis: RedisServer, tmp_path: Path, skews: list[int]
) -> None:
    common = {
        "url": redis.url,
        "folder": str(tmp_path),
        "limits": {"ip": ["1000/day"], "user": ["70/day", "500/day"]},
        "who": {"ip": "192.0.2.1", "user": "ada"},
        "callers": 8,
        "calls": 10,
    }
    said = await asyncio.to_thread(
        workers, [common | {"skew": skew, "ban": BANNED if number == 0 else None} for number, skew in enumerate(skews)]
    )
    assert sum(one["allowed"] for one in said) == 70
    waits = [wait for one in said for wait in one["waits"]]
    assert len(waits) == len(skews) * 80 - 70
    assert all(0 < wait <= 86_400 / 70 for wait in waits)
    store, database = manager_for(redis.url), sqlite_in(tmp_path)
    async with running(store, database), limiter(store, database, limits=common["limits"]) as manager:
        assert (await manager.get_rate_limit_info("192.0.2.1", "ip"))["remaining"] == 930
        assert (await manager.check_rate_limit(["ip"], identifiers={"ip": BANNED}))["banned"] == ["ip"]


async def flood(manager: RateLimiterManager, strangers: Iterable[int]) -> None:
    for number in strangers:
        result = await manager.check_rate_limit(("user",), identifiers={"user": f"stranger-{number}"})
        assert result["allowed"]


def test_million_strangers_are_counted_in_bounded_space() -> None:
    counts, rule = Counts(2000), rule_for((meter_for(RateLimit(10, 3600)),), 0)
    for number in range(1_000_000):
        counts.find("user", f"stranger-{number}", rule)
    assert len(counts) == 2000
    assert counts.evicted == 998_000


async def test_flood_takes_no_more_memory_once_the_space_is_used() -> None:
    async with limiter(limits={"user": "10/hour"}, local_size=1000) as manager:
        await flood(manager, range(5000))
        tracemalloc.start()
        try:
            await flood(manager, range(5000, 10_000))
            before, _ = tracemalloc.get_traced_memory()
            await flood(manager, range(10_000, 30_000))
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 100_000


async def test_flood_pushes_out_nobody_who_keeps_coming() -> None:
    async with limiter(limits={"user": "10/hour"}, local_size=1000) as manager:
        for begin in range(0, 5000, 500):
            await manager.check_rate_limit(["user"], identifiers={"user": "ada"})
            await flood(manager, range(begin, begin + 500))
        assert (await manager.check_rate_limit(["user"], identifiers={"user": "ada"}))["allowed"] is False


async def test_endless_name_takes_no_endless_space() -> None:
    async with limiter(limits={"user": "2/hour"}) as manager:
        long, other = "x" * 2_000_000 + "a", "x" * 2_000_000 + "b"
        tracemalloc.start()
        try:
            results = [await manager.check_rate_limit(["user"], identifiers={"user": long}) for _ in range(3)]
            assert [result["allowed"] for result in results] == [True, True, False]
            assert (await manager.check_rate_limit(["user"], identifiers={"user": other}))["allowed"] is True
            del results
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert kept < 1_000_000


async def test_every_count_on_a_server_has_an_end(redis: RedisServer, tmp_path: Path) -> None:
    store, database = manager_for(redis.url), sqlite_in(tmp_path)
    async with (
        running(store, database),
        limiter(store, database, limits={"user": ["10/second", "2000/day"]}) as manager,
    ):
        await flood(manager, range(500))
        keys = redis.ask("KEYS", "*")
        assert len(keys) == 1000
        assert all(0 < redis.ask("PTTL", key) <= 86_400_000 / 2000 + 5000 for key in keys)


async def test_flood_of_bans_lifts_none_that_has_no_end() -> None:
    settings = {"violations": 1, "types": ["user"]}
    async with limiter(limits={"user": "1/day"}, auto_ban=settings, bans_in_memory=50) as manager:
        await manager.ban_identifier("mallory", limit_type="user")
        with capture_logs():
            for number in range(200):
                for _ in range(2):
                    result = await manager.check_rate_limit(["user"], identifiers={"user": f"stranger-{number}"})
                assert result["banned"] == ["user"]
        assert (await manager.health_check())["metrics"]["bans"] == 50
        assert (await manager.check_rate_limit(["user"], identifiers={"user": "mallory"}))["banned"] == ["user"]
