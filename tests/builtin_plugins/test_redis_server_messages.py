"""Messages of the provider ``server`` through outages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from base04.testing.proxy import FaultyProxy
from base04.testing.servers.redis import RedisServer
from base04_builtin.redis.server import ServerRedisManager
from base04_hookspecs.errors import InvalidInput, ManagerError, ManagerUnavailable
from redis_kit import QUICK, WAIT_S, started, until

GAP = "gap"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "server") as running:
        yield running


class Ear:
    """A subscriber that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self._news = asyncio.Event()

    async def __call__(self, channel: str, message: Any) -> None:
        self.heard.append(message)
        self._news.set()

    async def gap(self, channel: str) -> None:
        await self(channel, GAP)

    async def until(self, message: Any) -> None:
        """Wait until this is what was heard last."""
        async with asyncio.timeout(WAIT_S):
            while not self.heard or self.heard[-1] != message:
                self._news.clear()
                await self._news.wait()


async def test_restart_is_survived_and_the_gap_told(server: RedisServer) -> None:
    async with started(server.url, retries=20) as manager:
        ears = {name: Ear() for name in ("a", "b", "c")}
        for name, ear in ears.items():
            await manager.subscribe(name, ear, on_gap=ear.gap)
            await manager.publish(name, 1)
            await ear.until(1)
        await asyncio.to_thread(server.restart)
        for name, ear in ears.items():
            await ear.until(GAP)
            await manager.publish(name, 2)
            await ear.until(2)
            assert ear.heard == [1, GAP, 2]
        metrics = (await manager.health_check())["metrics"]
        assert (metrics["outages"], metrics["silent_channels"]) == (1, 0)


async def test_every_cut_is_told_once(server: RedisServer) -> None:
    async with FaultyProxy(server.address) as proxy, started(f"redis://{proxy.host}:{proxy.port}") as manager:
        ear = Ear()
        await manager.subscribe("news", ear, on_gap=ear.gap)
        for number in range(3):
            proxy.cut()
            await ear.until(GAP)
            await manager.publish("news", number)
            await ear.until(number)
        assert ear.heard == [GAP, 0, GAP, 1, GAP, 2]


async def test_what_was_queued_before_the_outage_comes_before_the_gap(server: RedisServer) -> None:
    async with FaultyProxy(server.address) as proxy, started(f"redis://{proxy.host}:{proxy.port}") as manager:
        ear, go, entered = Ear(), asyncio.Event(), asyncio.Event()

        async def slow(channel: str, message: Any) -> None:
            entered.set()
            await go.wait()
            await ear(channel, message)

        await manager.subscribe("news", slow, on_gap=ear.gap)
        witness = Ear()
        await manager.subscribe("news", witness, on_gap=witness.gap)
        for number in range(3):
            await manager.publish("news", number)
        await entered.wait()
        await witness.until(2)
        proxy.cut()
        await witness.until(GAP)
        await manager.publish("news", "after")
        await witness.until("after")
        go.set()
        await ear.until("after")
        assert ear.heard == [0, 1, 2, GAP, "after"]


async def test_connection_that_died_without_a_word_is_noticed(server: RedisServer) -> None:
    async with (
        FaultyProxy(server.address) as proxy,
        started(f"redis://{proxy.host}:{proxy.port}", **QUICK, ping_interval=0.1) as manager,
    ):
        ear = Ear()
        await manager.subscribe("news", ear, on_gap=ear.gap)
        proxy.half_open()
        await until(lambda: silent(manager, 1))
        await proxy.pass_all()
        await ear.until(GAP)
        await until(lambda: silent(manager, 0))
        server.ask("PUBLISH", "news", "1")
        await ear.until(1)


async def silent(manager: ServerRedisManager, number: int) -> bool:
    bus = manager._bus
    return bus.silent == number


async def test_quiet_connection_that_answers_pings_is_kept(server: RedisServer) -> None:
    async with started(server.url, ping_interval=0.02) as manager:
        ear = Ear()
        await manager.subscribe("news", ear, on_gap=ear.gap)
        server.ask("CONFIG", "RESETSTAT")

        async def pinged() -> bool:
            return "cmdstat_ping" in str(server.ask("INFO", "commandstats"))

        await until(pinged)
        await manager.publish("news", 1)
        await ear.until(1)
        assert ear.heard == [1]
        assert (await manager.health_check())["metrics"]["outages"] == 0


async def test_restart_in_the_middle_of_subscribing(server: RedisServer) -> None:
    async with FaultyProxy(server.address) as proxy, started(f"redis://{proxy.host}:{proxy.port}") as manager:
        first, second = Ear(), Ear()
        await manager.subscribe("first", first, on_gap=first.gap)
        proxy.swallow_replies(matching=lambda request: b"SUBSCRIBE" in request, times=1)
        subscribing = asyncio.create_task(manager.subscribe("second", second, on_gap=second.gap))
        await asyncio.wait_for(proxy.swallowed.wait(), WAIT_S)
        proxy.cut()
        assert await subscribing is True
        await first.until(GAP)
        await manager.publish("second", 1)
        await second.until(1)
        assert second.heard == [1]  # it had not been told yet that it listens, so it has missed nothing


async def test_subscribing_in_vain_fails_and_leaves_nothing(server: RedisServer) -> None:
    async with (
        FaultyProxy(server.address) as proxy,
        started(f"redis://{proxy.host}:{proxy.port}", **QUICK) as manager,
    ):
        ear = Ear()
        await proxy.refuse()
        with pytest.raises(ManagerUnavailable, match="news"):
            await manager.subscribe("news", ear)
        assert await manager.unsubscribe("news", ear) is False
        await proxy.pass_all()
        assert await manager.publish("news", 1) == 0
        assert await manager.subscribe("news", ear) is True
        await manager.publish("news", 2)
        await ear.until(2)
        assert ear.heard == [2]


async def test_cancelled_subscribing_leaves_nothing(server: RedisServer) -> None:
    async with FaultyProxy(server.address) as proxy, started(f"redis://{proxy.host}:{proxy.port}") as manager:
        ear = Ear()
        proxy.half_open()
        for _ in range(3):
            subscribing = asyncio.create_task(manager.subscribe("news", ear))
            await asyncio.sleep(0.01)
            subscribing.cancel()
            await asyncio.gather(subscribing, return_exceptions=True)
        await proxy.pass_all()

        async def nobody() -> bool:
            return list(server.ask("PUBSUB", "NUMSUB", "news")) == ["news", 0]

        await until(nobody)
        await manager.subscribe("news", ear)
        await manager.publish("news", 1)
        await ear.until(1)
        assert ear.heard == [1]


async def test_one_connection_serves_all_channels_and_goes_with_the_last(server: RedisServer) -> None:
    async with started(server.url) as manager:
        ears = [Ear() for _ in range(50)]
        await asyncio.gather(*(manager.subscribe(f"channel{number}", ear) for number, ear in enumerate(ears)))

        async def listening(number: int) -> bool:
            lines = str(server.ask("CLIENT", "LIST", "TYPE", "pubsub")).splitlines()
            return len([line for line in lines if line]) == number

        assert await listening(1)
        for number, ear in enumerate(ears):
            assert await manager.publish(f"channel{number}", number) == 1
            await ear.until(number)
            await manager.unsubscribe(f"channel{number}", ear)
        await until(lambda: listening(0))


async def test_joining_and_leaving_in_quick_succession(server: RedisServer) -> None:
    async with started(server.url) as manager:
        for number in range(100):
            ear = Ear()
            await manager.subscribe("news", ear, on_gap=ear.gap)
            assert await manager.publish("news", number) == 1
            await ear.until(number)
            assert ear.heard == [number]
            assert await manager.unsubscribe("news", ear) is True
            if number % 3:
                await asyncio.sleep(0)


async def test_foreign_messages_are_skipped(server: RedisServer) -> None:
    async with started(server.url) as manager:
        ear = Ear()
        await manager.subscribe("news", ear, on_gap=ear.gap)
        with capture_logs() as logs:
            server.ask("PUBLISH", "news", "not json")
            server.ask("PUBLISH", "news", '{"a": 1}')
            await ear.until({"a": 1})
        assert ear.heard == [{"a": 1}]
        assert [entry["event"] for entry in logs] == ["message is not JSON and was skipped"]
        assert (await manager.health_check())["metrics"]["errors"] == 1


async def test_slow_subscriber_learns_what_it_missed(server: RedisServer) -> None:
    async with started(server.url, queue_size=3) as manager:
        slow, quick, go = Ear(), Ear(), asyncio.Event()

        async def wait(channel: str, message: Any) -> None:
            await go.wait()
            await slow(channel, message)

        await manager.subscribe("news", wait, on_gap=slow.gap)
        await manager.subscribe("news", quick)
        for number in range(10):
            await manager.publish("news", number)
            await quick.until(number)
        go.set()
        await slow.until(9)
        assert slow.heard == [0, GAP, 7, 8, 9]


async def test_channel_that_is_forbidden_is_refused(server: RedisServer) -> None:
    server.ask("ACL", "SETUSER", "guest", "on", ">pw", "~*", "+@all", "resetchannels", "&allowed")
    async with started(server.url, username="guest", password="pw") as manager:
        ear = Ear()
        await manager.subscribe("allowed", ear)
        with pytest.raises(ManagerError, match="permission"):
            await manager.subscribe("forbidden", ear)
        await manager.publish("allowed", 1)
        await ear.until(1)


async def test_names_and_callbacks_that_cannot_be_used_are_refused(server: RedisServer) -> None:
    async with started(server.url) as manager:
        with pytest.raises(InvalidInput):
            await manager.subscribe("news", None)  # type: ignore[arg-type]  # on purpose
        with pytest.raises(InvalidInput):
            await manager.subscribe("\ud800", Ear())
        with pytest.raises(InvalidInput):
            await manager.publish("\ud800", 1)


async def test_stop_ends_subscribers(server: RedisServer) -> None:
    entered, ended = asyncio.Event(), asyncio.Event()

    async def callback(channel: str, message: Any) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with started(server.url) as manager:
        await manager.subscribe("news", callback)
        await manager.publish("news", 1)
        await entered.wait()
    assert ended.is_set()
