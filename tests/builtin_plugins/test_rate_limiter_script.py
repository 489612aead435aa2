"""The scripts of the provider ``gcra``: what they count, and that both bodies agree."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from base04.testing.servers.redis import RedisServer
from base04.testing.servers.resp import RespClient
from base04_builtin.rate_limiter.ban_scripts import BAN, RESTORE, UNBAN
from base04_builtin.rate_limiter.check_script import CHECK
from base04_builtin.rate_limiter.meter import meter_for
from base04_builtin.rate_limiter.plan import SHADOW, WATCHED, AutoBanPlan, plan_text, rule_for
from base04_hookspecs.rate_limiter import RateLimit
from rate_limiter_kit import NOW_MS, ClockedStore, GcraModel

_CLOCKED = """
local server = redis
local redis = {call = function(command, ...)
  if command ~= 'TIME' then return server.call(command, ...) end
  local now = tonumber(server.call('GET', 'clock'))
  return {string.format('%.0f', math.floor(now / 1000)), string.format('%.0f', now % 1000 * 1000)}
end}
"""
"""Goes before a script, so that its clock is the one that the test sets at the key ``clock``."""


def plan_of(limits: Sequence[RateLimit], cost: int) -> str:
    """Return the plan of a call at one level that has these limits."""
    return plan_text([rule_for(tuple(map(meter_for, limits)), 0)], cost, consume=True, auto_ban=AutoBanPlan())


def check_in(store: ClockedStore, limits: Sequence[RateLimit], cost: int) -> list[Any]:
    """Return the reply to a call: whether it may go on, the time, no ban, and level and wait of each limit."""
    keys = ["penalty", *(f"limit:{number}" for number in range(len(limits)))]
    replies: Any = CHECK.python(store, keys, [plan_of(limits, cost)])
    (reply,) = replies
    assert isinstance(reply, list)
    return reply


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RespClient]:
    with RedisServer(tmp_path_factory.mktemp("r")) as started, started.client() as client:
        yield client


LIMITS = st.builds(RateLimit, st.integers(1, 50), st.integers(1, 20))
SEVERAL = st.lists(LIMITS, min_size=1, max_size=3, unique=True)
CALLS = st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 8)), max_size=60)


@given(SEVERAL, CALLS)
@settings(deadline=None)
def test_python_agrees_with_the_definition_of_gcra(limits: list[RateLimit], calls: list[tuple[int, int]]) -> None:
    store, model = ClockedStore(), GcraModel(limits)
    for pause, cost in calls:
        store.now += pause
        assert bool(check_in(store, limits, cost)[0]) is model.check(store.now, cost)


@given(SEVERAL, CALLS)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lua_agrees_with_the_definition_of_gcra(
    server: RespClient, limits: list[RateLimit], calls: list[tuple[int, int]]
) -> None:
    prefix, model, now = uuid.uuid4().hex, GcraModel(limits), NOW_MS
    keys = [f"{prefix}:{number}" for number in range(1 + len(limits))]
    for pause, cost in calls:
        now += pause
        server.command("SET", "clock", now)
        ((allowed, at, *_),) = server.run(_CLOCKED + CHECK.lua, keys, [plan_of(limits, cost)])
        assert at == now
        assert bool(allowed) is model.check(now, cost)


@given(LIMITS, st.lists(st.integers(0, 500), max_size=40))
@settings(deadline=None)
def test_wait_is_exactly_what_is_needed(limit: RateLimit, pauses: list[int]) -> None:
    store = ClockedStore()
    for pause in pauses:
        store.now += pause
        reply = check_in(store, [limit], 1)
        if not reply[0]:
            wait = reply[4]
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
    assert meter.capacity == meter.charge * amount
    assert meter.capacity + max(meter.arguments(10**9)[0], meter.drain) < 2**53 + 2**50
    exact = Fraction(period_s * 1000, amount)
    kept = Fraction(meter.charge, meter.drain)
    assert exact <= kept <= exact * (1 + Fraction(amount, 4000 * period_s * 1000) + Fraction(1, 10**6))


def test_counts_vanish_once_they_are_nothing() -> None:
    store, limit = ClockedStore(), RateLimit(2, 1)
    check_in(store, [limit], 1)
    ((_, ends),) = store.values.values()
    assert ends == store.now + 500 + 5000


def test_clock_set_back_does_not_lock_anybody_out() -> None:
    store, limit = ClockedStore(), RateLimit(2, 1)
    assert [check_in(store, [limit], 1)[0] for _ in range(3)] == [1, 1, 0]
    store.now -= 3_600_000
    assert check_in(store, [limit], 1)[0] == 0
    store.now += 500
    assert check_in(store, [limit], 1)[0] == 1


def test_lua_agrees_with_python(server: RespClient) -> None:
    """Both bodies go through the same calls; the server says what its clock was, and the other's is set to that."""
    chance, outcomes = random.Random(20260101), set[int]()
    auto_ban = AutoBanPlan(5, 60_000, 60_000, "refused: too often")
    for _ in range(40):
        prefix, store = uuid.uuid4().hex, ClockedStore()
        rules = [
            rule_for(
                tuple(meter_for(RateLimit(chance.randrange(1, 400), chance.randrange(1, 30))) for _ in range(buckets)),
                chance.choice([0, 0, SHADOW, WATCHED, SHADOW | WATCHED]),
            )
            for buckets in (1, 2, 0)
        ]
        names = [f"{prefix}:{number}" for number in range(6)]
        for _ in range(30):
            calls = chance.randrange(1, 4)
            plans = [plan_text(rules, chance.randrange(1, 200), chance.random() < 0.8, auto_ban) for _ in range(calls)]
            replies = server.run(CHECK.lua, names * calls, plans)
            store.now = replies[0][1]
            assert CHECK.python(store, names * calls, plans) == replies
            outcomes.update(reply[0] for reply in replies)
            for name in names:
                assert server.command("GET", name) == store.get(name) or _ending(store, name)
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
        keys, store = [f"{uuid.uuid4().hex}:{number}" for number in range(2)], ClockedStore()
        for cost in (1, limit.amount // 2 + 1, limit.amount // 3 + 1, limit.amount, 10**12):
            plan = plan_of([limit], cost)
            replies = server.run(CHECK.lua, keys, [plan])
            store.now = replies[0][1]
            assert CHECK.python(store, keys, [plan]) == replies
            assert server.command("GET", keys[1]) == store.get(keys[1])


def test_lua_of_bans_agrees_with_python(server: RespClient) -> None:
    keys = [f"{uuid.uuid4().hex}:{number}" for number in range(3)]
    plan = plan_text([rule_for((), 0)] * 3, 1, consume=True, auto_ban=AutoBanPlan())
    store = ClockedStore()
    for life, reason in ((60_000, "tóo: curious"), (0, "")):
        until, store.now = server.run(BAN.lua, keys, [life, reason])
        assert BAN.python(store, keys, [str(life), reason]) == [until, store.now]
        assert until == (store.now + life if life else 0)
        assert [server.command("GET", key) for key in keys] == [store.get(key) for key in keys]
        assert (server.command("PTTL", keys[0]) > 0) is (life > 0)
        refused = server.run(CHECK.lua, keys, [plan])
        store.now = refused[0][1]
        assert CHECK.python(store, keys, [plan]) == refused
        assert refused[0][0] == 0
    lifted, store.now = server.run(UNBAN.lua, [*keys, "never banned"], ["0"])
    assert UNBAN.python(store, [*keys, "never banned"], ["0"]) == [3, store.now]
    assert lifted == 3


def test_lua_of_bans_brought_back_agrees_with_python(server: RespClient) -> None:
    keys = [f"{uuid.uuid4().hex}:{number}" for number in range(4)]
    _, now = server.run(BAN.lua, keys[:2], [60_000, "kept"])
    store = ClockedStore(now)
    BAN.python(store, keys[:2], ["60000", "kept"])
    bans = [(now + 90_000, now + 1, "newer"), (now + 90_000, now - 1, "older"), (0, now, "no end"), (1, 1, "over")]
    args = [str(part) for ban in bans for part in ban]
    assert server.run(RESTORE.lua, keys, args) == RESTORE.python(store, keys, args) == 2
    assert [server.command("GET", key) for key in keys] == [store.get(key) for key in keys]
    assert server.run(UNBAN.lua, keys, [str(now)])[0] == 2
    assert UNBAN.python(store, keys, [str(now)]) == [2, now]
    assert [server.command("GET", key) for key in keys] == [store.get(key) for key in keys]
