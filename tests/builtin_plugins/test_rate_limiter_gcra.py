"""The provider ``gcra`` of the role ``rate_limiter``."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from structlog.testing import capture_logs

from base04.testing.conformance.rate_limiter import CONFIGURED, RateLimiterConformance
from base04.testing.servers.redis import RedisServer
from base04.testing.servers.resp import RespClient
from base04_builtin.rate_limiter import rate_limiter_providers
from base04_builtin.rate_limiter.gcra import GcraRateLimiterManager
from base04_builtin.rate_limiter.identifiers import normalised_address, subject_for
from base04_builtin.rate_limiter.meter import meter_for
from base04_builtin.rate_limiter.scripts import BAN, CHECK, UNBAN
from base04_builtin.rate_limiter.settings import GcraRateLimiterSettings
from base04_builtin.redis.memory import MemoryRedisManager, MemoryRedisSettings
from base04_hookspecs.errors import InvalidInput, ManagerUnavailable, NotFound
from base04_hookspecs.rate_limiter import RateLimit

NOW_MS = 1_800_000_000_000


class ClockedStore:
    """A script store with a clock that the test sets."""

    def __init__(self, now: int = NOW_MS) -> None:
        self.now = now
        self.values: dict[str, tuple[str, int | None]] = {}

    def get(self, key: str) -> str | None:
        value, ends = self.values.get(key, (None, None))
        return None if ends is not None and ends <= self.now else value

    def set(self, key: str, value: str, px: int | None = None) -> None:
        assert px is None or px > 0
        self.values[key] = (value, None if px is None else self.now + px)

    def delete(self, key: str) -> int:
        return int(self.values.pop(key, None) is not None)

    def pttl(self, key: str) -> int:
        raise AssertionError("the scripts do not ask for it")

    def pexpire(self, key: str, ms: int) -> int:
        raise AssertionError("the scripts do not ask for it")

    def now_ms(self) -> int:
        return self.now


class Model:
    """GCRA as it is defined: one theoretical arrival time for each limit, in exact fractions of a millisecond."""

    def __init__(self, limits: Sequence[RateLimit]) -> None:
        self.limits = limits
        self.arrivals = [Fraction(0)] * len(limits)

    def check(self, now: int, cost: int) -> bool:
        later: list[Fraction] = []
        for limit, arrival in zip(self.limits, self.arrivals, strict=True):
            interval = Fraction(limit.period_s * 1000, limit.amount)
            following = max(arrival, Fraction(now)) + cost * interval
            if following - limit.period_s * 1000 > now:
                return False
            later.append(following)
        self.arrivals = later
        return True


def check_in(store: ClockedStore, limits: Sequence[RateLimit], cost: int) -> list[Any]:
    args = ["1", "0"]
    for limit in limits:
        args += meter_for(limit).arguments(cost)
    reply = CHECK.python(store, [f"limit:{number}" for number in range(len(limits))], args)
    assert isinstance(reply, list)
    return reply


@asynccontextmanager
async def limiter(**values: Any) -> AsyncIterator[GcraRateLimiterManager]:
    redis = MemoryRedisManager(MemoryRedisSettings())
    await redis.start()
    manager = GcraRateLimiterManager(GcraRateLimiterSettings(**values), redis)
    await manager.start()
    yield manager
    await manager.stop()
    await redis.stop()


@pytest.fixture
async def manager() -> AsyncIterator[GcraRateLimiterManager]:
    async with limiter(limits=dict(CONFIGURED)) as started:
        yield started


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RespClient]:
    with RedisServer(tmp_path_factory.mktemp("r")) as started, started.client() as client:
        yield client


class TestGcraRateLimiter(RateLimiterConformance):
    capabilities = next(iter(rate_limiter_providers())).capabilities


LIMITS = st.builds(RateLimit, st.integers(1, 50), st.integers(1, 20))
CALLS = st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 8)), max_size=60)


@given(st.lists(LIMITS, min_size=1, max_size=3), CALLS)
@settings(deadline=None)
def test_script_agrees_with_the_definition_of_gcra(limits: list[RateLimit], calls: list[tuple[int, int]]) -> None:
    store, model = ClockedStore(), Model(limits)
    for pause, cost in calls:
        store.now += pause
        assert bool(check_in(store, limits, cost)[0]) is model.check(store.now, cost)


@given(LIMITS, st.lists(st.integers(0, 500), max_size=40))
@settings(deadline=None)
def test_wait_is_exactly_what_is_needed(limit: RateLimit, pauses: list[int]) -> None:
    store = ClockedStore()
    for pause in pauses:
        store.now += pause
        reply = check_in(store, [limit], 1)
        if not reply[0]:
            wait = reply[3]
            assert wait > 0
            store.now += wait - 1
            assert check_in(store, [limit], 1)[0] == 0
            store.now += 1
            assert check_in(store, [limit], 1)[0] == 1


@given(st.integers(1, 999_999_999), st.integers(1, 999_999 * 86_400))
@settings(deadline=None)
def test_meter_stays_exact_in_doubles_and_on_the_safe_side(amount: int, period_s: int) -> None:
    meter = meter_for(RateLimit(amount, period_s))
    assert meter.drain >= 1
    assert meter.capacity + max(int(meter.arguments(10**9)[0]), meter.drain) < 2**53 + 2**50
    exact = Fraction(period_s * 1000, amount)
    kept = Fraction(meter.charge, meter.drain)
    assert exact <= kept <= exact * (1 + Fraction(1, 10**6))
    assert meter.remaining(0) == amount
    assert meter.remaining(meter.capacity) == 0


def test_counts_vanish_once_they_are_nothing() -> None:
    store, limit = ClockedStore(), RateLimit(2, 1)
    check_in(store, [limit], 1)
    ((_, ends),) = store.values.values()
    assert ends is not None
    assert 500 <= ends - store.now <= 502


def test_clock_set_back_does_not_lock_anybody_out() -> None:
    store, limit = ClockedStore(), RateLimit(2, 1)
    assert [check_in(store, [limit], 1)[0] for _ in range(3)] == [1, 1, 0]
    store.now -= 3_600_000
    assert check_in(store, [limit], 1)[0] == 0
    store.now += 500
    assert check_in(store, [limit], 1)[0] == 1


def test_lua_agrees_with_python(server: RespClient) -> None:
    """Both bodies go through the same calls; the server says what its clock was, and the model's is set to that."""
    chance, outcomes = random.Random(20260101), set[int]()
    for _ in range(60):
        prefix, store = uuid.uuid4().hex, ClockedStore()
        limits = [(chance.randrange(1, 400), chance.randrange(1, 30), chance.randrange(1, 60)) for _ in range(3)]
        bans = [f"{prefix}:ban:{number}" for number in range(2)]
        keys = [*bans, *(f"{prefix}:{number}" for number in range(3))]
        for _ in range(40):
            args = [chance.choice("1110"), "2"]
            for charge, amount, drain in limits:
                args += [str(charge * chance.randrange(1, 3)), str(charge * amount), str(drain)]
            reply = server.run(CHECK.lua, keys, args)
            store.now = reply[1]
            assert CHECK.python(store, keys, args) == reply
            outcomes.add(reply[0])
            for key in keys[2:]:
                assert server.command("GET", key) == store.get(key) or _ending(store, key)
            if chance.random() < 0.1:
                time.sleep(0.002)
    assert outcomes == {0, 1}


def _ending(store: ClockedStore, key: str) -> bool:
    """Tell whether a key is so close to its end that the server may have dropped it meanwhile."""
    _, ends = store.values[key]
    return ends is not None and ends - store.now < 50


def test_lua_of_large_numbers_agrees_with_python(server: RespClient) -> None:
    for limit in (
        RateLimit(999_999_937, 86_400),
        RateLimit(999_999_999, 999_999 * 86_400),
        RateLimit(1, 999_999 * 86_400),
    ):
        key, store = uuid.uuid4().hex, ClockedStore()
        for cost in (1, limit.amount // 2, limit.amount // 3, limit.amount, 10**12):
            args = ["1", "0", *meter_for(limit).arguments(cost)]
            reply = server.run(CHECK.lua, [key], args)
            store.now = reply[1]
            assert CHECK.python(store, [key], args) == reply
            assert server.command("GET", key) == store.get(key)


def test_lua_of_bans_agrees_with_python(server: RespClient) -> None:
    keys = [f"{uuid.uuid4().hex}:{number}" for number in range(3)]
    for life, reason in ((60_000, "tóo: curious"), (0, "")):
        until = server.run(BAN.lua, keys, [life, reason])
        store = ClockedStore(until - life if life else NOW_MS)
        assert BAN.python(store, keys, [str(life), reason]) == until
        assert [server.command("GET", key) for key in keys] == [store.get(key) for key in keys]
        assert (server.command("PTTL", keys[0]) > 0) is (life > 0)
        args = ["1", "3"]
        refused = server.run(CHECK.lua, keys, args)
        store.now = refused[1]
        assert CHECK.python(store, keys, args) == refused
        assert refused[0] == 0
    assert server.run(UNBAN.lua, [*keys, "never banned"], []) == 3
    assert UNBAN.python(store, [*keys, "never banned"], []) == 3


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::/64", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("192.0.2.1/64", None),
        ("testclient", None),
        ("", None),
    ],
)
def test_address_is_counted_as(address: str, counted: str | None) -> None:
    assert normalised_address(address) == counted


def test_identifiers_never_share_keys() -> None:
    names = ["a", "a:b", "a%3Ab", "a b", "a%20b", "A", "{a}", "é", "\ud800", "x" * 300, "x" * 301, "a\nb"]
    subjects = [subject_for(limit_type, name) for limit_type in ("user", "api_key") for name in names]
    keys = [subject.count_prefix for subject in subjects] + [subject.ban_key for subject in subjects]
    assert len(set(keys)) == 4 * len(names)
    counts = [subject.count_prefix for subject in subjects]
    assert not any(one != other and other.startswith(one) for one in counts for other in counts)
    assert all(key.startswith("b04:{rate_limiter}:") and key.isascii() and len(key) < 600 for key in keys)


async def test_reset_of_one_leaves_those_whose_names_begin_alike() -> None:
    async with limiter(limits={"user": "1/hour"}) as manager:
        for who in ("a", "a:b", "ab"):
            await manager.check_rate_limit(["user"], identifiers={"user": who})
        assert await manager.reset_rate_limit("a", "user") is True
        assert (await manager.get_rate_limit_info("a:b", "user"))["remaining"] == 0
        assert (await manager.get_rate_limit_info("ab", "user"))["remaining"] == 0


async def test_reset_forgets_limits_that_came_with_the_call(manager: GcraRateLimiterManager) -> None:
    who, limits = {"action": "greet:ada"}, {"action": [RateLimit(1, 3600)]}
    assert (await manager.check_rate_limit(["action"], identifiers=who, limits=limits))["allowed"] is True
    assert (await manager.check_rate_limit(["action"], identifiers=who, limits=limits))["allowed"] is False
    assert await manager.reset_rate_limit("greet:ada", "action") is True
    assert (await manager.check_rate_limit(["action"], identifiers=who, limits=limits))["allowed"] is True


async def test_info_of_a_type_without_limit_says_so(manager: GcraRateLimiterManager) -> None:
    with pytest.raises(NotFound, match="action"):
        await manager.get_rate_limit_info("greet", "action")
    await manager.ban_identifier("greet", limit_type="action", reason="noisy")
    info = await manager.get_rate_limit_info("greet", "action")
    assert (info["banned"], info["ban_reason"], info["limit"], info["remaining"]) == (True, "noisy", 0, 0)


async def test_cost_beyond_the_limit_answers_the_period(manager: GcraRateLimiterManager) -> None:
    result = await manager.check_rate_limit(["user"], identifiers={"user": "ada"}, cost=10**15)
    assert (result["allowed"], result["exceeded_types"], result["retry_after"]) == (False, ["user"], 86_400)


async def test_type_named_twice_is_consumed_once(manager: GcraRateLimiterManager) -> None:
    await manager.check_rate_limit(["user", "user"], identifiers={"user": "ada"})
    assert (await manager.get_rate_limit_info("ada", "user"))["remaining"] == 2


@pytest.mark.parametrize(
    "values",
    [
        {"limit_types": "user"},
        {"limit_types": ["user"], "identifiers": {"usr": "ada"}},
        {"limit_types": ["user"], "limits": {"usr": []}},
        {"limit_types": ["user"], "cost": 1.5},
        {"limit_types": ["user"], "cost": True},
    ],
)
async def test_slip_of_the_caller_is_refused(manager: GcraRateLimiterManager, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        await manager.check_rate_limit(**values)


def test_settings_keep_the_defaults_that_they_do_not_mention() -> None:
    values = GcraRateLimiterSettings.model_validate({"limits": {"ip": ["100/minute", "100/1 minutes"], "user": []}})
    assert values.parsed("ip") == (RateLimit(100, 60),)
    assert values.parsed("user") == ()
    assert values.parsed("api_key") == (RateLimit(1200, 60),)
    assert GcraRateLimiterSettings().parsed("ip") == (RateLimit(600, 60),)


@pytest.mark.parametrize("limits", [{"ip": "often"}, {"ip": ["0/minute"]}, {"planet": "1/day"}, "1/day"])
def test_settings_that_cannot_be_read_are_refused(limits: Any) -> None:
    with pytest.raises(ValidationError):
        GcraRateLimiterSettings.model_validate({"limits": limits})


async def test_ban_is_logged(manager: GcraRateLimiterManager) -> None:
    with capture_logs() as logs:
        await manager.ban_identifier("2001:db8::1", duration=60, reason="scanning")
    assert [(one["event"], one["identifier"], one["limit_types"]) for one in logs] == [
        ("identifier banned", "2001:db8::/64", ["ip"])
    ]
    assert (await manager.check_rate_limit(["ip"], identifiers={"ip": "2001:db8::2"}))["banned"] == ["ip"]


@pytest.mark.parametrize("policy", ["open", "closed"])
async def test_count_that_cannot_be_kept(policy: str) -> None:
    redis = MemoryRedisManager(MemoryRedisSettings())
    await redis.start()
    manager = GcraRateLimiterManager(GcraRateLimiterSettings.model_validate({"on_unavailable": policy}), redis)
    who = {"user": "ada"}
    await redis.stop()
    with capture_logs() as logs:
        for _ in range(3):
            if policy == "open":
                assert (await manager.check_rate_limit(["user"], identifiers=who))["allowed"] is True
            else:
                with pytest.raises(ManagerUnavailable):
                    await manager.check_rate_limit(["user"], identifiers=who)
    assert [entry["event"] for entry in logs] == ["rate limits cannot be counted"]
    report = await manager.health_check()
    assert report["status"] == ("degraded" if policy == "open" else "unhealthy")
    assert report["metrics"]["errors"] == 3
    with pytest.raises(ManagerUnavailable):
        await manager.ban_identifier("ada")
    await redis.start()
    await manager.check_rate_limit(["user"], identifiers=who)
    assert (await manager.health_check())["status"] == "healthy"
    await redis.stop()


async def test_many_callers_of_many_levels_get_exactly_the_limit() -> None:
    async with limiter(limits={"ip": "1000/hour", "user": "70/hour", "api_key": "100/hour"}) as manager:
        who = {"ip": "192.0.2.1", "user": "ada", "api_key": "key"}
        results = await asyncio.gather(
            *(manager.check_rate_limit(["ip", "user", "api_key"], identifiers=who) for _ in range(300))
        )
        assert sum(result["allowed"] for result in results) == 70
        assert (await manager.get_rate_limit_info("192.0.2.1", "ip"))["remaining"] == 930
        assert (await manager.get_rate_limit_info("key", "api_key"))["remaining"] == 30
