from __future__ import annotations

from visits import DAY_S, visit

from base04.testing.fakes import Call, FakeDatabase, FakeRedis
from base04.testing.fakes.clock import Clock
from base04_hookspecs.errors import ManagerUnavailable, OutcomeUnknown
from base04_hookspecs.redis import key_name

KEY = key_name("visits", "home")


async def test_visit_is_counted_for_a_day(fake_redis: FakeRedis, clock: Clock) -> None:
    assert [await visit("home", fake_redis) for _ in range(2)] == [1, 2]
    assert fake_redis.calls == [Call("incr", {"key": KEY, "ttl": DAY_S})] * 2
    clock.advance(DAY_S)
    assert await visit("home", fake_redis) == 1


async def test_visit_is_let_go_while_the_store_is_away(fake_redis: FakeRedis) -> None:
    fake_redis.fail_next("incr", ManagerUnavailable)
    assert await visit("home", fake_redis) is None
    with fake_redis.unavailable():
        assert await visit("home", fake_redis) is None
        assert await fake_redis.ping() is False
    assert await visit("home", fake_redis) == 1


async def test_lost_reply_is_the_callers_to_judge(fake_redis: FakeRedis) -> None:
    fake_redis.fail_next("incr", OutcomeUnknown, after=True)
    try:
        await visit("home", fake_redis)
    except OutcomeUnknown:
        assert await fake_redis.get(KEY) == 1


async def test_database_is_a_real_one(fake_database: FakeDatabase) -> None:
    assert await fake_database.execute_query("SELECT 1 AS one") == [{"one": 1}]
    assert "transactions" in fake_database.capabilities
