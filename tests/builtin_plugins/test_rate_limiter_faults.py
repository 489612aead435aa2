"""The provider ``gcra`` when servers are away, forget, or come back, and bans among several processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from base04.testing.proxy import FaultyProxy
from base04.testing.servers.redis import RedisServer
from base04_builtin.rate_limiter.ban_table import BanTable
from base04_builtin.rate_limiter.gcra import GcraRateLimiterManager
from base04_builtin.redis.memory import MemoryRedisManager, MemoryRedisSettings
from base04_hookspecs.errors import InvalidInput, ManagerUnavailable
from base04_hookspecs.rate_limiter import OnUnavailable, RateLimit
from rate_limiter_kit import limiter, process, running, sqlite_in
from redis_kit import QUICK, manager_for, until

ADA = {"user": "ada"}
LIMITS = {"user": "4/day", "ip": "2/day"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as started:
        yield started


@asynccontextmanager
async def on(server: RedisServer, folder: Path, **settings: Any) -> AsyncIterator[GcraRateLimiterManager]:
    """A limiter on a server that may go away, with bans in a file that several share."""
    redis = manager_for(server.url, **QUICK, retries=0)
    async with process(redis, sqlite_in(folder), **({"limits": LIMITS} | settings)) as manager:
        yield manager


async def allowed(manager: GcraRateLimiterManager, policy: OnUnavailable | None = None, **who: str) -> bool:
    result = await manager.check_rate_limit(list(who or ADA), identifiers=who or ADA, on_unavailable=policy)
    return result["allowed"]


async def status(manager: GcraRateLimiterManager) -> str:
    return (await manager.health_check())["status"]


async def has_returned(manager: GcraRateLimiterManager) -> bool:
    return await status(manager) == "healthy"


@pytest.mark.parametrize("policy", ["open", "closed", "local"])
async def test_count_that_cannot_be_kept(server: RedisServer, tmp_path: Path, policy: str) -> None:
    async with on(server, tmp_path, on_unavailable=policy) as manager:
        assert await allowed(manager)
        server.kill()
        with capture_logs() as logs:
            for number in range(6):
                if policy == "closed":
                    with pytest.raises(ManagerUnavailable, match="closed"):
                        await allowed(manager)
                else:
                    assert await allowed(manager) is (policy == "open" or number < 4)
        assert [entry["event"] for entry in logs].count("rate limits cannot be counted") == 1
        report = await manager.health_check()
        assert report["status"] == ("unhealthy" if policy == "closed" else "degraded")
        assert report["dependencies"] == {"redis": "unhealthy"}
        assert report["metrics"]["errors"] == 6
        server.start()
        await until(lambda: has_returned(manager))
        assert (await manager.check_rate_limit(["user"], identifiers=ADA))["limits"] != []


async def test_server_without_room_is_away_until_it_has_some(server: RedisServer, tmp_path: Path) -> None:
    async with on(server, tmp_path, on_unavailable="local") as manager:
        server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        server.ask("CONFIG", "SET", "maxmemory", "1")
        with capture_logs() as logs:
            assert [await allowed(manager) for _ in range(6)] == [True] * 4 + [False] * 2
            assert await status(manager) == "degraded"
            assert [entry["event"] for entry in logs].count("rate limits cannot be counted") == 1
            server.ask("CONFIG", "SET", "maxmemory", "0")
            await until(lambda: has_returned(manager))
        assert await allowed(manager)


async def test_call_says_what_becomes_of_it(server: RedisServer, tmp_path: Path) -> None:
    async with on(server, tmp_path, on_unavailable="closed") as manager:
        server.kill()
        assert [await allowed(manager, "open") for _ in range(5)] == [True] * 5
        assert [await allowed(manager, "local") for _ in range(5)] == [True] * 4 + [False]
        with pytest.raises(ManagerUnavailable):
            await allowed(manager)
        with pytest.raises(InvalidInput, match="ajar"):
            await allowed(manager, "ajar")  # type: ignore[arg-type]  # what the check is for


async def test_process_that_counts_alone_lets_its_share_through(server: RedisServer, tmp_path: Path) -> None:
    async with on(server, tmp_path, on_unavailable="local", local_share=0.5) as manager:
        assert [await allowed(manager) for _ in range(5)] == [True] * 4 + [False]
        server.kill()
        assert [await allowed(manager, user="eve") for _ in range(3)] == [True, True, False]
        result = await manager.check_rate_limit(["user"], identifiers={"user": "bob"})
        assert [(one["limit"], one["remaining"]) for one in result["limits"]] == [(2, 1)]
        only_this = {"action": [RateLimit(1, 60)]}
        call = {"identifiers": {"action": "act"}, "limits": only_this}
        first = await manager.check_rate_limit(["action"], **call)  # type: ignore[arg-type]  # one dict
        second = await manager.check_rate_limit(["action"], **call)  # type: ignore[arg-type]  # one dict
        assert (first["allowed"], second["allowed"]) == (True, False)


async def test_counting_alone_is_bounded(server: RedisServer, tmp_path: Path) -> None:
    async with on(server, tmp_path, on_unavailable="local", local_size=100) as manager:
        server.kill()
        for number in range(1000):
            assert await allowed(manager, user=f"stranger-{number}")
        metrics = (await manager.health_check())["metrics"]
        assert (metrics["local_identifiers"], metrics["local_evicted"]) == (100, 900)


@pytest.mark.parametrize("policy", ["open", "local"])
async def test_ban_holds_while_nothing_can_be_counted(server: RedisServer, tmp_path: Path, policy: str) -> None:
    async with on(server, tmp_path, on_unavailable=policy) as manager:
        await manager.ban_identifier("192.0.2.1", 600, reason="scanning")
        server.kill()
        result = await manager.check_rate_limit(["ip", "user"], identifiers={"ip": "192.0.2.1", **ADA})
        assert (result["allowed"], result["banned"]) == (False, ["ip"])
        assert 500 < result["retry_after"] <= 600
        await manager.ban_identifier("192.0.2.2", 600)
        assert await manager.unban_identifier("192.0.2.1") is True
        assert await allowed(manager, ip="192.0.2.2") is False
        assert await allowed(manager, ip="192.0.2.1") is True
        server.start()
        await until(lambda: has_returned(manager))
        assert await allowed(manager, ip="192.0.2.2") is False
        assert await allowed(manager, ip="192.0.2.1") is True


async def test_bans_come_back_where_the_server_has_forgotten_them(server: RedisServer, tmp_path: Path) -> None:
    async with on(server, tmp_path) as one, on(server, tmp_path) as other:
        await one.ban_identifier("192.0.2.1", 600, reason="scanning")
        await one.ban_identifier("mallory", limit_type="user")
        await until(lambda: knows(other, 2))
        server.ask("FLUSHALL")
        for manager in (other, one):
            result = await manager.check_rate_limit(["ip"], identifiers={"ip": "192.0.2.1"})
            assert result["banned"] == ["ip"]
            assert (await manager.get_rate_limit_info("mallory", "user"))["banned"] is True


async def knows(manager: GcraRateLimiterManager, bans: int) -> bool:
    return bool((await manager.health_check())["metrics"]["bans"] == bans)


async def test_ban_that_was_lifted_elsewhere_does_not_come_back(server: RedisServer, tmp_path: Path) -> None:
    async with on(server, tmp_path, ban_sync=3600) as one, on(server, tmp_path, ban_sync=3600) as other:
        await one.ban_identifier("192.0.2.1", 600)
        await until(lambda: knows(other, 1))
        assert await one.unban_identifier("192.0.2.1") is True
        assert await allowed(other, ip="192.0.2.1") is True  # asked the database, for it knew of a ban
        await until(lambda: knows(other, 0))
        server.ask("FLUSHALL")
        assert await allowed(other, ip="192.0.2.1") is True


async def test_automatic_ban_holds_elsewhere_and_after_a_restart(server: RedisServer, tmp_path: Path) -> None:
    auto_ban = {"violations": 3, "window": 60, "duration": 600, "types": ["ip"]}
    with capture_logs() as logs:
        async with on(server, tmp_path, auto_ban=auto_ban) as one, on(server, tmp_path, auto_ban=auto_ban) as other:
            who, outcomes = {"ip": "2001:db8::1"}, []
            for number in range(7):
                manager = one if number % 2 else other
                outcomes.append(await manager.check_rate_limit(["ip"], identifiers=who))
            assert [one["allowed"] for one in outcomes] == [True, True] + [False] * 5
            assert [one["banned"] for one in outcomes[2:]] == [[], [], ["ip"], ["ip"], ["ip"]]
            assert outcomes[-1]["retry_after"] > 500
            await until(lambda: knows(one, 1))
    banned = [one for one in logs if one["event"] == "identifier banned automatically"]
    assert [(one["identifier"], one["limit_type"]) for one in banned] == [("2001:db8::/64", "ip")]
    server.ask("FLUSHALL")
    async with on(server, tmp_path) as later:
        info = await later.get_rate_limit_info("2001:db8::2", "ip")
        assert (info["banned"], info["ban_reason"]) == (True, "refused 3 times within 60 s")


async def test_violations_are_forgotten_after_their_window() -> None:
    auto_ban = {"violations": 2, "window": 0.1, "duration": 600, "types": ["user"]}
    async with limiter(limits={"user": "1/day"}, auto_ban=auto_ban) as manager:
        assert await allowed(manager)
        for _ in range(3):
            result = await manager.check_rate_limit(["user"], identifiers=ADA)
            assert (result["allowed"], result["banned"]) == (False, [])
            await asyncio.sleep(0.11)


@pytest.mark.parametrize("shared", [True, False])
async def test_limits_in_shadow_report_and_never_refuse(server: RedisServer, tmp_path: Path, shared: bool) -> None:
    redis = manager_for(server.url) if shared else MemoryRedisManager(MemoryRedisSettings())
    auto_ban = {"violations": 1, "types": ["user"]}
    values: dict[str, Any] = {"limits": LIMITS, "shadow": ["user"], "auto_ban": auto_ban}
    async with process(redis, sqlite_in(tmp_path), **values) as manager:
        who = ADA | {"ip": "192.0.2.1"}
        results = [await manager.check_rate_limit(["user"], identifiers=who) for _ in range(6)]
        assert [result["allowed"] for result in results] == [True] * 6
        assert [result.get("shadow_exceeded", []) for result in results] == [[]] * 4 + [["user"]] * 2
        both = [await manager.check_rate_limit(["user", "ip"], identifiers=who) for _ in range(3)]
        assert [result["allowed"] for result in both] == [True, True, False]
        assert both[-1]["exceeded_types"] == ["ip"]
        assert both[-1]["shadow_exceeded"] == ["user"]
        assert (await manager.health_check())["metrics"]["shadow_exceeded"] == 5


async def test_check_of_all_levels_is_one_round_trip(server: RedisServer, tmp_path: Path) -> None:
    def runs() -> int:
        lines = str(server.ask("INFO", "commandstats")).splitlines()
        found = [line.partition("calls=")[2].partition(",")[0] for line in lines if line.startswith("cmdstat_evalsha:")]
        return int(found[0]) if found else 0

    who = {"ip": "192.0.2.1", "user": "ada", "api_key": "key", "action": "act"}
    limits = {level: ["1000/minute", "2000/day"] for level in who}
    async with on(server, tmp_path, limits=limits) as manager:
        await manager.check_rate_limit(list(who), identifiers=who)  # the server knows the script from now on
        before = runs()
        for _ in range(5):
            result = await manager.check_rate_limit(list(who), identifiers=who)
            assert len(result["limits"]) == 8
        assert runs() == before + 5
        await asyncio.gather(*(manager.check_rate_limit(list(who), identifiers=who) for _ in range(100)))
        assert runs() <= before + 5 + 10  # who comes while a run is on its way shares the next one


async def test_lost_reply_is_no_reason_to_count_again(server: RedisServer, tmp_path: Path) -> None:
    async with FaultyProxy(server.address) as proxy:
        redis = manager_for(f"redis://{proxy.host}:{proxy.port}", **QUICK)
        async with process(redis, sqlite_in(tmp_path), limits=LIMITS) as manager:
            assert await allowed(manager)
            proxy.swallow_replies(matching=lambda request: b"EVAL" in request, times=1, cut=True)
            assert await allowed(manager)  # open: it may go on, and was counted
            await proxy.pass_all()
            await until(lambda: has_returned(manager))
            assert (await manager.get_rate_limit_info("ada", "user"))["remaining"] == 2


async def test_caller_that_gives_up_takes_nobody_along(server: RedisServer, tmp_path: Path) -> None:
    async with on(server, tmp_path, limits={"user": "100/day"}) as manager:
        await allowed(manager)
        calls = [asyncio.create_task(allowed(manager, user=f"user-{number}")) for number in range(50)]
        await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert done[1::2] == [True] * 25
        assert all(isinstance(one, asyncio.CancelledError) or one is True for one in done[::2])
        assert await allowed(manager)


async def test_start_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(*_: Any) -> list[Any]:
        raise ManagerUnavailable("The database has gone.")

    monkeypatch.setattr(BanTable, "live", gone)
    redis, database = MemoryRedisManager(MemoryRedisSettings()), sqlite_in(tmp_path)
    async with running(redis, database):
        with pytest.raises(ManagerUnavailable):
            async with limiter(redis, database):
                raise AssertionError("it has started")
        assert (await redis.health_check())["metrics"]["subscribers"] == 0


async def test_counts_outlive_the_limiter_but_not_the_store(tmp_path: Path) -> None:
    redis, database = MemoryRedisManager(MemoryRedisSettings()), sqlite_in(tmp_path)
    async with running(redis, database):
        async with limiter(redis, database, limits={"user": "4/day"}) as manager:
            assert [await allowed(manager) for _ in range(3)] == [True] * 3
        async with limiter(redis, database, limits={"user": ["4/day", "10/hour"]}) as renewed:
            assert [await allowed(renewed) for _ in range(3)] == [True, False, False]
    async with limiter(limits={"user": "4/day"}) as fresh:
        assert await allowed(fresh)
