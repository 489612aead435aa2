"""What a test can do with a fake: look up calls, let them fail, take the backend away, move time."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from base04.testing.fakes import (
    Call,
    FakeApiKey,
    FakeDatabase,
    FakeHooks,
    FakeJWT,
    FakeModule,
    FakeRateLimiter,
    FakeRedis,
    FakeState,
)
from base04.testing.fakes.clock import Clock
from base04.testing.fakes.maker import MakeFake
from base04.testing.hosts import MakeApp
from base04_hookspecs import HealthReport, Manager, Provider, health_report, hookimpl
from base04_hookspecs.database import Column, TableSchema
from base04_hookspecs.errors import (
    ExpiredApiKey,
    ExpiredToken,
    ManagerUnavailable,
    NotSupported,
    OutcomeUnknown,
)
from base04_hookspecs.redis import RedisManager

NOTES = TableSchema("notes", (Column("id", "string", nullable=False), Column("text", "text")), ("id",))
HOUR_S = 3600.0


async def test_calls_are_noted_by_the_names_of_their_arguments(fake_redis: FakeRedis) -> None:
    await fake_redis.set("a", 1, ttl=5)
    await fake_redis.get(key="a")
    with pytest.raises(TypeError):
        await fake_redis.get()  # type: ignore[call-arg]  # that is the fault
    assert fake_redis.calls == [Call("set", {"key": "a", "value": 1, "ttl": 5}), Call("get", {"key": "a"})]
    assert fake_redis.called("get") == [{"key": "a"}]
    fake_redis.forget_calls()
    assert fake_redis.calls == []


async def test_failure_is_raised_once_and_changes_nothing(fake_redis: FakeRedis) -> None:
    assert await fake_redis.incr("n") == 1
    fake_redis.fail_next("incr", ManagerUnavailable)
    with pytest.raises(ManagerUnavailable, match="The test asked for this failure"):
        await fake_redis.incr("n")
    assert await fake_redis.incr("n") == 2
    assert len(fake_redis.called("incr")) == 3


async def test_lost_reply_leaves_what_was_done(fake_redis: FakeRedis) -> None:
    lost = OutcomeUnknown("the reply was lost")
    fake_redis.fail_next("incr", lost, after=True, times=2)
    for _ in range(2):
        with pytest.raises(OutcomeUnknown) as caught:
            await fake_redis.incr("n")
        assert caught.value is lost
    assert await fake_redis.incr("n") == 3


async def test_failures_come_in_their_order_and_for_their_method_alone(fake_redis: FakeRedis) -> None:
    fake_redis.fail_next("get", ManagerUnavailable)
    fake_redis.fail_next("get", NotSupported("not now"))
    assert await fake_redis.set("a", 1)
    for error in (ManagerUnavailable, NotSupported):
        with pytest.raises(error):
            await fake_redis.get("a")
    assert await fake_redis.get("a") == 1


async def test_method_that_does_not_exist_is_told(fake_redis: FakeRedis) -> None:
    with pytest.raises(AttributeError, match=r"RedisManager has no method 'gett'\. Did you mean 'get'\?"):
        fake_redis.fail_next("gett", ManagerUnavailable)
    with pytest.raises(AttributeError):
        fake_redis.called("fetch")
    with pytest.raises(ValueError, match="from 1 on"):
        fake_redis.fail_next("get", ManagerUnavailable, times=0)


async def test_backend_that_is_away_is_told_as_the_contract_says(
    fake_redis: FakeRedis, fake_database: FakeDatabase
) -> None:
    assert await fake_redis.set("a", 1)
    with fake_redis.unavailable(), fake_database.unavailable():
        with pytest.raises(ManagerUnavailable, match="backend of 'redis' away"):
            await fake_redis.get("a")
        with pytest.raises(ManagerUnavailable):
            fake_redis.local_object("x", object)
        assert await fake_redis.ping() is False
        assert await fake_database.check_connection() is False
        assert (await fake_redis.health_check())["status"] == "unhealthy"
    assert await fake_redis.ping() is True
    assert await fake_redis.get("a") == 1


async def test_views_share_calls_and_failures(fake_database: FakeDatabase) -> None:
    await fake_database.ensure_table(NOTES)
    reader = fake_database.with_access("read_only")
    fake_database.fail_next("find", ManagerUnavailable)
    with pytest.raises(ManagerUnavailable):
        await reader.find("notes")
    assert await reader.find("notes") == []
    with pytest.raises(NotSupported):
        await reader.ensure_table(NOTES)
    with fake_database.unavailable(), pytest.raises(ManagerUnavailable):
        await reader.find("notes")
    assert len(fake_database.called("find")) == 3


async def test_fake_is_a_manager_of_its_contract(fake_redis: FakeRedis, fake_state: FakeState) -> None:
    assert isinstance(fake_redis, RedisManager)
    assert fake_redis.role == "redis"
    assert fake_state.behind.keys() >= {"database"}
    assert fake_redis.behind == {}
    assert "revocation" not in fake_redis.capabilities


async def test_each_fake_is_alone(make_fake: MakeFake) -> None:
    one, two = await make_fake("redis"), await make_fake("redis")
    await one.set("a", 1)
    assert await two.get("a") is None


async def test_settings_are_those_of_the_role(make_fake: MakeFake) -> None:
    small = await make_fake("redis", {"max_bytes": 2048})
    with pytest.raises(ManagerUnavailable):
        await small.set("a", "x" * 4096)


class Greeter(Manager):
    """A role of a plugin's own."""

    role = "greeter"

    async def greet(self, name: str) -> str:
        return f"Hello, {name}!"

    async def health_check(self) -> HealthReport:
        return health_report()


@hookimpl
def extra_providers() -> Iterable[Provider]:
    return [Provider("own", Greeter, role="greeter", capabilities=frozenset({"warmth"}))]


async def test_role_of_a_plugin_has_a_fake_too(make_fake: MakeFake) -> None:
    greeter = await make_fake("greeter", plugins=[("own", SimpleNamespace(extra_providers=extra_providers))])
    assert issubclass(type(greeter), Greeter)
    assert greeter.capabilities == {"warmth"}
    greeter.fail_next("greet", ManagerUnavailable)
    with pytest.raises(ManagerUnavailable):
        await greeter.greet("Ada")
    assert await greeter.greet("Ada") == "Hello, Ada!"


# Time


async def test_lives_end_when_time_is_moved(fake_redis: FakeRedis, clock: Clock) -> None:
    await fake_redis.set("a", 1, ttl=HOUR_S)
    await fake_redis.set("b", 1, ttl=3 * HOUR_S)
    clock.advance(2 * HOUR_S)
    assert (await fake_redis.get("a"), await fake_redis.get("b")) == (None, 1)
    assert await fake_redis.ttl("b") == pytest.approx(HOUR_S, abs=60)


async def test_tokens_and_keys_end_when_time_is_moved(
    fake_jwt: FakeJWT, fake_api_key: FakeApiKey, clock: Clock
) -> None:
    token = await fake_jwt.create_access_token("ada")
    key = await fake_api_key.generate_api_key("ada", expires_in=HOUR_S)
    assert (await fake_jwt.validate_token(token))["user_id"] == (await fake_api_key.validate_api_key(key))["user_id"]
    clock.advance(24 * HOUR_S)
    with pytest.raises(ExpiredToken):
        await fake_jwt.validate_token(token)
    with pytest.raises(ExpiredApiKey):
        await fake_api_key.validate_api_key(key)


async def test_states_end_when_time_is_moved(fake_state: FakeState, clock: Clock) -> None:
    await fake_state.register_state("s", "session", {}, ttl=HOUR_S)
    clock.advance(2 * HOUR_S)
    state = await fake_state.get_state("s", fresh=True)
    assert state is None or state["status"] == "expired"


class TestLimits:
    @pytest.fixture
    def fake_settings(self) -> Mapping[str, Any]:
        return {"rate_limiter": {"limits": {"user": "2/hour"}}}

    async def test_places_come_back_and_bans_end_when_time_is_moved(
        self, fake_rate_limiter: FakeRateLimiter, clock: Clock
    ) -> None:
        async def ask() -> bool:
            return (await fake_rate_limiter.check_rate_limit(["user"], identifiers={"user": "ada"}))["allowed"]

        assert [await ask() for _ in range(3)] == [True, True, False]
        clock.advance(HOUR_S)
        assert await ask()
        await fake_rate_limiter.ban_identifier("ada", HOUR_S, limit_type="user")
        assert not await ask()
        clock.advance(HOUR_S + 1)
        assert await ask()


async def test_time_of_a_host_is_moved_too(make_app: MakeApp, clock: Clock) -> None:
    app = await make_app(only=["jwt"])
    token = await app.jwt_manager.create_access_token("ada")
    clock.advance(24 * HOUR_S)
    with pytest.raises(ExpiredToken):
        await app.jwt_manager.validate_token(token)


def test_time_is_moved_for_the_packages_alone_and_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = ModuleType("acme_notes.times"), ModuleType("acme_notes_not.times")
    for module in (mine, other):
        vars(module).update(time=time, now=time.time, other=time.sleep)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    clock = Clock(["acme_notes"])
    clock.reach()
    try:
        clock.advance(HOUR_S)
        moved: Any = mine
        assert moved.time.time() - time.time() == pytest.approx(HOUR_S, abs=60)
        assert moved.now() - time.time() == pytest.approx(HOUR_S, abs=60)
        assert moved.time.monotonic() - time.monotonic() == pytest.approx(HOUR_S, abs=60)
        assert moved.time.sleep is time.sleep
        assert vars(other)["time"] is time
    finally:
        clock.stop()
    assert (vars(mine)["time"], vars(mine)["now"]) == (time, time.time)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_time_does_not_go_back(clock: Clock, seconds: float) -> None:
    with pytest.raises(ValueError, match="give a number from 0 on"):
        clock.advance(seconds)


async def test_fake_of_the_modules_is_about_a_host_of_its_own(fake_module: FakeModule, fake_hooks: FakeHooks) -> None:
    assert "builtin-module" in {module["name"] for module in await fake_module.list_modules()}
    assert await fake_hooks.trigger_hook("nobody.listens", self="fine") == []
