"""The provider ``native`` in several processes: managers of their own on one real Redis server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from base04.testing.conformance.websocket_client import Connect, Refused, room_of, within
from base04.testing.conformance.websocket_shared import SharedWebSocketConformance
from base04.testing.servers.redis import RedisServer
from base04_builtin.redis.memory import MemoryRedisManager, MemoryRedisSettings
from base04_builtin.websocket.lease_script import RENEW_LEASE
from base04_builtin.websocket.native import NativeWebSocketManager
from base04_builtin.websocket.room_log_scripts import APPEND, READ, RENEW
from base04_hookspecs.redis import AtomicScript
from redis_kit import QUICK, started
from websocket_kit import NativeClient, Site, TableJWT, eventually, site


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as running:
        yield running


class Pair:
    """Two managers for the same users; each has a connection of its own to the server."""

    def __init__(self, one: Site, two: Site) -> None:
        self.one, self.two = one, two

    async def members(self, room: str = "news") -> tuple[NativeClient, NativeClient]:
        """Return two clients in a room, one of each; the first watches who is there, and knows of the second."""
        ada, bob = await self.one.connect("ada"), await self.two.connect("bob")
        await ada.join(room, presence=True)
        await bob.join(room)
        assert await ada.told("presence") == {"room": room, "event": "join", "user_id": "bob"}
        return ada, bob


class Pairs:
    """Makes pairs; what it makes ends with the test."""

    def __init__(self, server: RedisServer, stack: AsyncExitStack) -> None:
        self._server = server
        self._stack = stack

    async def make(self, **settings: Any) -> Pair:
        jwt = TableJWT()
        return Pair(*[await self.site(jwt, **settings) for _ in range(2)])

    async def site(self, jwt: TableJWT, **settings: Any) -> Site:
        redis = await self._stack.enter_async_context(started(self._server.url, **QUICK))
        return await self._stack.enter_async_context(site(jwt, redis, **settings))


@pytest.fixture
async def pairs(server: RedisServer) -> AsyncIterator[Pairs]:
    async with AsyncExitStack() as stack:
        yield Pairs(server, stack)


class TestConformance(SharedWebSocketConformance):
    @pytest.fixture
    async def pair(self, pairs: Pairs) -> Pair:
        return await pairs.make()

    @pytest.fixture
    def manager(self, pair: Pair) -> NativeWebSocketManager:
        return pair.one.manager

    @pytest.fixture
    def other_manager(self, pair: Pair) -> NativeWebSocketManager:
        return pair.two.manager

    @pytest.fixture
    def connect(self, pair: Pair) -> Connect:
        return pair.one.connect

    @pytest.fixture
    def connect_there(self, pair: Pair) -> Connect:
        return pair.two.connect


# The scripts


def log_calls(dice: random.Random) -> Iterator[tuple[AtomicScript, list[str | int]]]:
    """Yield calls on one log; what has a life lives longer than the test."""
    for number in range(300):
        kind = dice.random()
        if kind < 0.6:
            text = dice.choice("aß€𝄞") * dice.randrange(40)
            yield APPEND, [f"epoch{number}", text, dice.choice([1, 5, 20]), dice.choice([50, 400]), 60_000, 90_000]
        elif kind < 0.95:
            since = dice.choice(["", "epoch0", f"epoch{dice.randrange(number + 1)}"])
            yield READ, [f"epoch{number}", since, dice.randrange(100), 90_000]
        else:
            yield RENEW, [f"renewed{number}", 90_000]


@pytest.mark.parametrize("seed", range(3))
async def test_both_bodies_of_the_log_do_the_same(server: RedisServer, seed: int) -> None:
    memory = MemoryRedisManager(MemoryRedisSettings())
    await memory.start()
    async with started(server.url) as real:
        for script, args in log_calls(random.Random(seed)):
            assert await memory.run_script(script, ["log"], args) == await real.run_script(script, ["log"], args)
    await memory.stop()


async def test_both_bodies_of_the_lease_do_the_same(server: RedisServer) -> None:
    memory = MemoryRedisManager(MemoryRedisSettings())
    await memory.start()
    dice = random.Random(1)
    async with started(server.url) as real:
        for number in range(100):
            args: list[str | int] = [
                f"epoch{number}",
                f"node{dice.randrange(4)}",
                number,
                dice.choice([0, 60_000, 60_000]),
            ]
            expected = await memory.run_script(RENEW_LEASE, ["leases"], args)
            assert await real.run_script(RENEW_LEASE, ["leases"], args) == expected
    await memory.stop()


async def test_events_expire_from_the_log(server: RedisServer) -> None:
    async with started(server.url) as real:
        for number, life in enumerate([1, 60_000, 60_000]):
            await real.run_script(APPEND, ["log"], ["epoch", f"text{number}", 100, 1000, life, 60_000])

        async def gone() -> bool:
            return bool(await real.run_script(READ, ["log"], ["-", "", 0, 60_000]) == ["epoch", 3, "text2", "text1"])

        await eventually(gone)
        await real.run_script(APPEND, ["log"], ["epoch", "text3", 100, 17, 60_000, 60_000])
        assert await real.run_script(READ, ["log"], ["-", "epoch", 1, 60_000]) == [
            "epoch",
            4,
            "text3",
            "text2",
            "text1",
        ]


# Tokens


async def test_revoked_token_closes_its_connections_in_both(pairs: Pairs) -> None:
    pair = await pairs.make()
    token = pair.one.jwt.issue("ada")
    here = await (await pair.one.open(token)).greeted()
    there = await (await pair.two.open(token)).greeted()
    other = await pair.two.connect("bob")
    await pair.one.jwt.blacklist_token(token)
    assert (await here.closed(), await there.closed()) == (4411, 4411)
    await other.join("still here")


# Processes that die


async def test_users_of_a_process_that_died_are_gone_within_the_lease(pairs: Pairs) -> None:
    pair = await pairs.make(presence_lease=1)
    ada, _ = await pair.members()
    silence(pair.two)
    assert await ada.told("presence") == {"room": "news", "event": "leave", "user_id": "bob"}
    assert await pair.one.manager.get_room_info("news") == room_of("news", ada=1)


async def test_users_of_a_process_that_only_paused_are_back(pairs: Pairs) -> None:
    pair = await pairs.make(presence_lease=1)
    ada, _ = await pair.members()
    resume = silence(pair.two)
    assert (await ada.told("presence"))["event"] == "leave"
    resume()
    assert await ada.told("presence") == {"room": "news", "event": "join", "user_id": "bob"}


def silence(place: Site) -> Any:
    """Let a manager say nothing more, as if its process were stopped; returns what lets it go on."""
    neighbours = place.manager._hub.neighbours
    assert neighbours is not None
    renew, neighbours._renew = neighbours._renew, _nothing  # type: ignore[method-assign]  # the process is stopped

    def resume() -> None:
        neighbours._renew = renew  # type: ignore[method-assign]  # it goes on

    return resume


async def _nothing() -> None:
    return None


async def test_newcomer_knows_who_is_where(pairs: Pairs) -> None:
    pair = await pairs.make()
    await pair.members()
    await (await pair.two.connect("bob")).join("other")
    third = await pairs.site(pair.one.jwt)
    assert await third.manager.list_rooms() == ["news", "other"]
    assert await third.manager.get_room_info("news") == room_of("news", ada=1, bob=1)


# The server is away


async def test_local_rooms_go_on_and_everybody_learns_of_the_gap(pairs: Pairs, server: RedisServer) -> None:
    pair = await pairs.make()
    ada, bob = await pair.members()
    await pair.one.manager.emit_to_room("news", "tick", 1)
    assert await ada.event() == await bob.event() == ("news", "tick", 1)
    before = ada.position("news")
    server.kill()
    assert await pair.one.manager.emit_to_room("news", "tick", 2) == 1
    message = await ada.event_message()
    assert (message["data"], "epoch" in message) == (2, False)
    assert (await pair.one.manager.health_check())["status"] == "degraded"
    late = await pair.one.connect("late")
    assert (await late.join("news", since=before)).get("recovered") is False
    await ada.emit("news", "line", 3)
    assert await late.event() == ("news", "line", 3)
    server.start()
    gaps = [await client.told("gap") for client in (ada, late, bob)]
    assert [gap["room"] for gap in gaps] == ["news"] * 3
    await eventually(lambda: healthy(pair.one))
    await pair.two.manager.emit_to_room("news", "tick", 4)
    assert (await ada.event(), await ada.event()) == (("news", "line", 3), ("news", "tick", 4))
    assert await bob.event() == await late.event() == ("news", "tick", 4)
    assert ada.position("news") == bob.position("news") == late.position("news")
    assert ada.position("news")["epoch"] != before["epoch"]
    again = await pair.two.connect("again")
    assert (await again.join("news", since=before)).get("recovered") is False


async def healthy(place: Site) -> bool:
    return (await place.manager.health_check())["status"] == "healthy"


async def test_room_that_was_quiet_meanwhile_has_no_gap_where_the_log_survives(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with RedisServer(tmp_path / "data", persistent=True) as server:
        async with AsyncExitStack() as stack:
            pair = await Pairs(server, stack).make()
            ada, bob = await pair.members()
            await (eve := await pair.one.connect("eve")).join("other")
            await pair.one.manager.emit_to_room("news", "tick", 1)
            server.kill()
            await pair.one.manager.emit_to_room("other", "tick", 2)
            server.start()
            assert (await eve.told("gap"))["room"] == "other"
            await eventually(lambda: healthy(pair.one))
            await pair.one.manager.emit_to_room("news", "tick", 3)
            for client in (ada, bob):
                assert [(await client.event())[2] for _ in range(2)] == [1, 3]
                assert client.position("news")["offset"] == 2
            assert (await pair.one.manager.health_check())["metrics"]["gaps"] == 1


async def test_event_whose_announcement_was_lost_is_made_up_for(pairs: Pairs) -> None:
    pair = await pairs.make()
    ada, bob = await pair.members()
    bus = pair.two.manager._hub._bus
    assert bus is not None
    take, bus._take = bus._take, _lose  # the message is lost on the way
    await pair.one.manager.emit_to_room("news", "tick", 1)
    assert (await ada.event())[2] == 1
    await within(lost.wait())
    bus._take = take
    await pair.one.manager.emit_to_room("news", "tick", 2)
    assert [(await bob.event())[2] for _ in range(2)] == [1, 2]


lost = asyncio.Event()


async def _lose(*_message: object) -> None:
    lost.set()


async def test_presence_survives_the_loss_of_the_server(pairs: Pairs, server: RedisServer) -> None:
    pair = await pairs.make(presence_lease=2)
    ada, bob = await pair.members()
    server.kill()
    eve = await pair.two.connect("eve")
    await eve.join("news")
    await bob.leave("news")
    server.start()
    moves = [await ada.told("presence") for _ in range(2)]
    assert sorted((move["event"], move["user_id"]) for move in moves) == [("join", "eve"), ("leave", "bob")]

    async def right() -> bool:
        infos = [await place.manager.get_room_info("news") for place in (pair.one, pair.two)]
        return infos == [room_of("news", ada=1, eve=1)] * 2

    await eventually(right)


async def test_message_that_makes_no_sense_on_the_bus_is_passed_over(pairs: Pairs, server: RedisServer) -> None:
    pair = await pairs.make()
    ada, bob = await pair.members()
    async with started(server.url) as stranger:
        for channel in ("b04:websocket:events", "b04:websocket:presence"):
            for message in (None, [], {}, ["node", "news", 1, 2, 3], {"node": 1}, {"node": "x", "version": "y"}):
                await stranger.publish(channel, message)
    await pair.one.manager.emit_to_room("news", "tick", 1)
    assert await ada.event() == await bob.event() == ("news", "tick", 1)
    with pytest.raises(Refused):
        await ada.ask(type="nonsense")
