"""The provider ``memory`` of the role ``redis``."""

from __future__ import annotations

import asyncio
import datetime
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from base04.testing.conformance.redis import Another, RedisConformance
from base04.testing.conformance.redis_scripts import ADD, TOUR, TOUR_ARGUMENTS, TOUR_REPLY, rounded
from base04.testing.servers.redis import RedisServer
from base04.testing.servers.resp import RespClient
from base04_builtin.redis import redis_providers
from base04_builtin.redis.memory import MemoryRedisManager, MemoryRedisSettings
from base04_builtin.redis.store import NEVER, MemoryStore
from base04_hookspecs.errors import InvalidInput, ManagerError, ManagerUnavailable
from base04_hookspecs.redis import AtomicScript, ScriptStore

WAIT_S = 20.0


@asynccontextmanager
async def memory(**values: Any) -> AsyncIterator[MemoryRedisManager]:
    manager = MemoryRedisManager(MemoryRedisSettings(**values))
    await manager.start()
    try:
        yield manager
    finally:
        await manager.stop()


@pytest.fixture
async def manager() -> AsyncIterator[MemoryRedisManager]:
    async with memory() as started:
        yield started


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RespClient]:
    with RedisServer(tmp_path_factory.mktemp("r")) as started, started.client() as client:
        yield client


class TestMemoryRedis(RedisConformance):
    capabilities = next(iter(redis_providers())).capabilities

    @pytest.fixture
    def another(self) -> Another:
        return memory


async def test_objects_live_as_long_as_the_store() -> None:
    async with memory() as manager:
        first = manager.local_object("counts", object)
        assert manager.local_object("counts", object) is first
        await manager.stop()
        with pytest.raises(ManagerUnavailable):
            manager.local_object("counts", object)
        await manager.start()
        assert manager.local_object("counts", object) is not first


def test_plugin_imports_no_implementation() -> None:
    script = (
        "import sys, base04_builtin.redis, base04_builtin.rate_limiter, base04_builtin.services, base04_builtin.hooks;"
        "heavy = ('pydantic', 'orjson', 'structlog', 'base04_builtin.');"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert sorted(eval(done.stdout)) == [
        f"base04_builtin.{name}" for name in ("hooks", "rate_limiter", "redis", "services")
    ]


def test_lua_of_the_conformance_scripts_answers_the_same(server: RespClient) -> None:
    assert rounded(server.run(TOUR.lua, ["{tour}:1", "{tour}:2"], TOUR_ARGUMENTS)) == TOUR_REPLY
    assert [server.run(ADD.lua, ["sum"], [amount]) for amount in (2, -5, 2**40)] == [2, -3, 2**40 - 3]
    assert server.command("GET", "sum") == str(2**40 - 3)


@pytest.mark.parametrize("value", [datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), "\ud800"])
async def test_value_that_json_does_not_have_is_refused(manager: MemoryRedisManager, value: object) -> None:
    with pytest.raises(InvalidInput):
        await manager.set("key", value)


async def test_value_too_deep_is_refused(manager: MemoryRedisManager) -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(InvalidInput):
        await manager.set("key", value)


async def test_setting_anew_drops_former_tags(manager: MemoryRedisManager) -> None:
    await manager.set("key", 1, tags=["old"])
    await manager.set("key", 2, tags=["new"])
    assert await manager.delete_by_tag("old") == 0
    await manager.incr("key")
    assert await manager.delete_by_tag("new") == 1


async def test_tags_must_not_be_one_string(manager: MemoryRedisManager) -> None:
    with pytest.raises(InvalidInput):
        await manager.set("key", 1, tags="tag")


async def test_text_of_a_script_that_is_not_json_is_an_error_of_get(manager: MemoryRedisManager) -> None:
    def write(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> None:
        store.set(keys[0], "not json")

    await manager.run_script(AtomicScript("write", "", write), ["key"], [])
    with pytest.raises(ManagerError, match="not JSON"):
        await manager.get("key")


async def test_script_arguments_are_text(manager: MemoryRedisManager) -> None:
    def echo(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> list[Any]:
        return list(args)

    script = AtomicScript("echo", "", echo)
    assert await manager.run_script(script, [], ["a", 1, 2.5]) == ["a", "1", "2.5"]
    with pytest.raises(InvalidInput):
        await manager.run_script(script, [], [True])


async def test_script_cannot_return_what_a_server_cannot(manager: MemoryRedisManager) -> None:
    def wrong(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> Any:
        return 1.5

    with pytest.raises(ManagerError, match=r"'wrong'.*float"):
        await manager.run_script(AtomicScript("wrong", "", wrong), [], [])


async def test_script_is_as_strict_as_a_server(manager: MemoryRedisManager) -> None:
    def number(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> None:
        store.set("key", 5)  # type: ignore[arg-type]  # on purpose

    def no_life(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> None:
        store.set("key", "5", 0)

    for body in (number, no_life):
        with pytest.raises(ManagerError, match=body.__name__):
            await manager.run_script(AtomicScript(body.__name__, "", body), [], [])
    assert (await manager.health_check())["metrics"]["errors"] == 2


async def test_write_without_room_is_refused_and_keeps_the_old_value() -> None:
    async with memory(max_bytes=10_000) as manager:
        await manager.set("key", "old")
        with pytest.raises(ManagerUnavailable, match="no room"):
            await manager.set("key", "x" * 10_000)
        assert await manager.get("key") == "old"
        for number in range(100):
            try:
                await manager.set(f"key{number}", "x" * 100)
            except ManagerUnavailable:
                break
        else:
            pytest.fail("the store never refused")
        health = (await manager.health_check())["metrics"]
        assert 8_000 < health["bytes"] <= 10_000
        await manager.delete("key0")
        assert await manager.set("key0", "x" * 100) is True


async def test_room_is_made_by_what_has_expired() -> None:
    async with memory(max_bytes=5_000) as manager:
        await manager.set("short", "x" * 4_000, ttl=0.005)
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    await manager.set("next", "x" * 4_000)
                    break
                except ManagerUnavailable:
                    await asyncio.sleep(0.005)
        assert await manager.exists("short") is False


async def test_eviction_takes_what_was_used_least_recently() -> None:
    async with memory(max_bytes=10_000, policy="evict") as manager:
        await manager.set("used", 0)
        for number in range(200):
            await manager.set(f"key{number}", number)
            assert await manager.get("used") == 0
        assert await manager.get("key0") is None
        assert await manager.get("key199") == 199
        health = (await manager.health_check())["metrics"]
        assert health["evicted"] > 100
        assert health["bytes"] <= 10_000
        with pytest.raises(ManagerUnavailable):
            await manager.set("key199", "x" * 10_000)
        assert await manager.get("used") == 0
        assert await manager.set("key199", "x" * 9_000) is True
        assert (await manager.health_check())["metrics"]["keys"] == 2
        assert await manager.get("used") == 0


def test_expired_keys_do_not_pile_up() -> None:
    store = MemoryStore(2**30, evict=False)
    for now in range(10_000):
        store.put(f"key{now}", "1", now + 10, now)
    assert len(store) <= 20


def test_deadlines_do_not_pile_up() -> None:
    store = MemoryStore(2**30, evict=False)
    for now in range(20_000):
        store.put("same", "1", now + 1_000_000, now)
        store.put("again", "1", now + 1_000_000, now)
        store.delete("again", now)
    assert len(store._deadlines) <= 2_000
    assert len(store) == 1


KEYS = st.sampled_from(["a", "b", "c"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.integers(1, 20)),
        st.tuples(st.just("put"), KEYS, st.just(NEVER)),
        st.tuples(st.just("expire"), KEYS, st.integers(-2, 20)),
        st.tuples(st.just("delete"), KEYS, st.just(0)),
        st.tuples(st.just("sweep"), KEYS, st.integers(1, 5)),
        st.tuples(st.just("pass"), KEYS, st.integers(1, 15)),
    ),
    max_size=60,
)


@given(STEPS, st.booleans())
@settings(deadline=None)
def test_store_agrees_with_a_plain_dictionary(steps: list[tuple[str, str, int]], evict: bool) -> None:
    store, model, now = MemoryStore(2**20, evict=evict), dict[str, tuple[str, int]](), 1_000
    for number, (step, key, value) in enumerate(steps):
        if step == "put":
            deadline = NEVER if value == NEVER else now + value
            store.put(key, str(number), deadline, now, (f"tag-{number % 3}",))
            model[key] = (str(number), deadline)
        elif step == "expire":
            assert store.expire(key, now + value, now) is (key in model)
            if key in model:
                model[key] = (model[key][0], now + value)
        elif step == "delete":
            assert store.delete(key, now) is (model.pop(key, None) is not None)
        elif step == "sweep":
            store.sweep(now, value)
        else:
            now += value
        model = {name: (raw, deadline) for name, (raw, deadline) in model.items() if deadline > now}
        for name in ("a", "b", "c"):
            assert (store.get(name, now), store.deadline(name, now)) == model.get(name, (None, None))
    assert len(store) == len(model)
    for name in list(store):
        store.delete(name, now)
    assert store.used_bytes == 0
    assert not store._tagged


async def test_slow_subscriber_blocks_nobody_and_learns_of_the_gap() -> None:
    async with memory(queue_size=3) as manager:
        go, entered, done, received = asyncio.Event(), asyncio.Event(), asyncio.Event(), asyncio.Event()
        slow: list[Any] = []
        quick: list[Any] = []

        async def slow_callback(channel: str, message: Any) -> None:
            entered.set()
            await go.wait()
            slow.append(message)
            if message == 9:
                done.set()

        async def quick_callback(channel: str, message: Any) -> None:
            quick.append(message)
            received.set()

        async def on_gap(channel: str) -> None:
            slow.append(f"gap in {channel}")

        await manager.subscribe("news", slow_callback, on_gap=on_gap)
        await manager.subscribe("news", quick_callback)
        await manager.publish("news", 0)
        await entered.wait()
        await asyncio.wait_for(received.wait(), WAIT_S)
        received.clear()
        for number in range(1, 10):
            assert await manager.publish("news", number) == 2
            await asyncio.wait_for(received.wait(), WAIT_S)
            received.clear()
        go.set()
        await asyncio.wait_for(done.wait(), WAIT_S)
        assert quick == list(range(10))
        assert slow == [0, "gap in news", 7, 8, 9]
        assert (await manager.health_check())["metrics"]["dropped_messages"] == 6


async def test_subscriber_runs_in_the_context_of_the_subscription(manager: MemoryRedisManager) -> None:
    variable: ContextVar[str] = ContextVar("variable")
    got: list[str] = []
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    def callback(channel: str, message: Any) -> None:
        got.append(variable.get())
        loop.call_soon_threadsafe(done.set)

    variable.set("of the subscriber")
    await manager.subscribe("channel", callback)
    variable.set("of the publisher")
    await manager.publish("channel", 1)
    await asyncio.wait_for(done.wait(), WAIT_S)
    assert got == ["of the subscriber"]


async def test_failing_subscriber_is_logged_and_counted(manager: MemoryRedisManager) -> None:
    done = asyncio.Event()

    async def cancelled_inside(channel: str, message: Any) -> None:
        if message == "last":
            done.set()
            return
        raise asyncio.CancelledError

    with capture_logs() as logs:
        await manager.subscribe("channel", cancelled_inside)
        await manager.publish("channel", "first")
        await manager.publish("channel", "last")
        await asyncio.wait_for(done.wait(), WAIT_S)
    assert [(entry["event"], entry["channel"]) for entry in logs] == [("subscriber callback failed", "channel")]
    assert (await manager.health_check())["metrics"]["errors"] == 1


async def test_subscriber_can_leave_from_within(manager: MemoryRedisManager) -> None:
    got: list[Any] = []
    left = asyncio.Event()

    async def callback(channel: str, message: Any) -> None:
        got.append(message)
        assert await manager.unsubscribe(channel, callback) is True
        await asyncio.sleep(0)
        left.set()

    await manager.subscribe("channel", callback)
    await manager.publish("channel", 1)
    await manager.publish("channel", 2)
    await asyncio.wait_for(left.wait(), WAIT_S)
    assert await manager.publish("channel", 3) == 0
    assert got == [1]


async def test_subscribing_twice_is_one_subscription(manager: MemoryRedisManager) -> None:
    async def callback(channel: str, message: Any) -> None:
        return None

    assert await manager.subscribe("channel", callback) is True
    assert await manager.subscribe("channel", callback) is True
    assert await manager.publish("channel", 1) == 1


async def test_stop_ends_subscribers_and_refuses_writes() -> None:
    ended = asyncio.Event()
    entered = asyncio.Event()

    async def callback(channel: str, message: Any) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with memory() as manager:
        await manager.subscribe("channel", callback)
        await manager.publish("channel", 1)
        await entered.wait()
    assert ended.is_set()
    assert await manager.ping() is False
    with pytest.raises(ManagerUnavailable):
        await manager.set("key", 1)
    with pytest.raises(ManagerUnavailable):
        await manager.subscribe("channel", callback)
    assert (await manager.health_check())["status"] == "unhealthy"


async def test_many_keys_are_deleted_by_prefix(manager: MemoryRedisManager) -> None:
    for number in range(25_000):
        await manager.set(f"{number % 2}:{number}", number)
    assert await manager.delete_by_prefix("1:") == 12_500
    assert (await manager.health_check())["metrics"]["keys"] == 12_500


async def test_incr_agrees_with_a_server_on_odd_texts(manager: MemoryRedisManager, server: RespClient) -> None:
    def put(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> None:
        store.set(keys[0], args[0])

    for text in (
        "7",
        "-7",
        "007",
        "+7",
        " 7",
        "7 ",
        "-0",
        "1_0",
        "٣",
        "",
        "9223372036854775807",
        "-9223372036854775809",
    ):
        key = uuid.uuid4().hex
        await manager.run_script(AtomicScript("put", "", put), [key], [text])
        server.command("SET", key, text)
        try:
            expected = server.command("INCRBY", key, 1)
        except RuntimeError:
            with pytest.raises(InvalidInput):
                await manager.incr(key)
        else:
            assert await manager.incr(key) == expected
