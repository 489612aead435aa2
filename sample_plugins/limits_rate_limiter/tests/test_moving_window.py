"""The provider ``moving_window``."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from importlib.metadata import entry_points

import pytest
from base04_limits_rate_limiter.manager import MovingWindowRateLimiterManager
from base04_limits_rate_limiter.plugin import CAPABILITIES
from base04_limits_rate_limiter.settings import MovingWindowSettings
from base04_limits_rate_limiter.storage import WindowStorage
from limits import RateLimitItemPerSecond
from limits.strategies import MovingWindowRateLimiter
from pydantic import ValidationError

from base04.testing.conformance.rate_limiter import CONFIGURED, Another, RateLimiterConformance
from base04_hookspecs import Principal, Provider, RequestContext
from base04_hookspecs.context import use_request
from base04_hookspecs.errors import InvalidInput, NotFound
from base04_hookspecs.rate_limiter import RateLimit, RateLimiterManager


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def limiter(**limits: str | list[str]) -> MovingWindowRateLimiterManager:
    return MovingWindowRateLimiterManager(MovingWindowSettings.model_validate({"limits": limits}))


class TestConformance(RateLimiterConformance):
    capabilities = CAPABILITIES

    @pytest.fixture
    def manager(self) -> RateLimiterManager:
        return limiter(**CONFIGURED)

    @pytest.fixture
    def another(self) -> Another:
        return lambda: nullcontext(limiter(**CONFIGURED))


def test_entry_point_offers_the_provider_without_importing_the_library() -> None:
    (found,) = [each for each in entry_points(group="base04.plugins") if each.name == "limits-rate-limiter"]
    assert found.value == "base04_limits_rate_limiter.plugin"
    providers: list[Provider] = list(found.load().rate_limiter_providers())
    assert [(each.name, each.default, each.capabilities) for each in providers] == [
        ("moving_window", False, frozenset({"atomic_levels", "burst", "exact", "bans"}))
    ]


async def test_one_full_level_consumes_nothing_from_the_others() -> None:
    manager = limiter(ip="1/minute", user="5/minute")
    who = {"ip": "192.0.2.1", "user": "ada"}
    assert (await manager.check_rate_limit(["ip", "user"], identifiers=who))["allowed"]
    refused = await manager.check_rate_limit(["ip", "user"], identifiers=who)
    assert (refused["allowed"], refused["exceeded_types"]) == (False, ["ip"])
    assert (await manager.get_rate_limit_info("ada", "user"))["remaining"] == 4


async def test_who_is_counted_comes_from_the_request() -> None:
    manager = limiter(ip="1/minute", user="5/minute")
    request = RequestContext("r", Principal("ada", method="token"), client_ip="2001:db8::1")
    with use_request(request):
        result = await manager.check_rate_limit(["ip", "user", "api_key"])
    assert [(state["limit_type"], state["identifier"]) for state in result["limits"]] == [
        ("ip", "2001:db8::/64"),
        ("user", "ada"),
    ]
    assert (await manager.check_rate_limit(["ip", "user"]))["limits"] == []


async def test_identifiers_with_slashes_do_not_meet() -> None:
    manager = limiter(user="1/minute")
    for user in ("a", "a/1", "a/1/60/second", "a%2F1"):
        assert (await manager.check_rate_limit(["user"], identifiers={"user": user}))["allowed"]
    assert await manager.reset_rate_limit("a", "user")
    assert not (await manager.check_rate_limit(["user"], identifiers={"user": "a/1"}))["allowed"]


async def test_reset_forgets_limits_that_came_with_a_call() -> None:
    manager = limiter()
    call = {"identifiers": {"action": "pack.act"}, "limits": {"action": [RateLimit(1, 3600)]}}
    assert (await manager.check_rate_limit(["action"], **call))["allowed"]  # type: ignore[arg-type]  # one dict
    assert not (await manager.check_rate_limit(["action"], **call))["allowed"]  # type: ignore[arg-type]  # one dict
    assert await manager.reset_rate_limit("pack.act", "action")
    assert not await manager.reset_rate_limit("pack.act", "action")
    assert (await manager.check_rate_limit(["action"], **call))["allowed"]  # type: ignore[arg-type]  # one dict


async def test_cost_beyond_the_limit_is_never_allowed() -> None:
    manager = limiter(user="5/minute")
    result = await manager.check_rate_limit(["user"], identifiers={"user": "ada"}, cost=6)
    assert (result["allowed"], result["retry_after"]) == (False, 60.0)
    assert (await manager.check_rate_limit(["user"], identifiers={"user": "ada"}, cost=5))["allowed"]


async def test_ban_of_anything_but_an_address_holds_for_every_other_type() -> None:
    manager = limiter()
    assert await manager.ban_identifier("ada", 60, reason="noise")
    result = await manager.check_rate_limit(["ip", "user"], identifiers={"ip": "ada", "user": "ada"})
    assert (result["allowed"], result["banned"]) == (False, ["user"])
    assert 59 < result["retry_after"] <= 60
    info = await manager.get_rate_limit_info("ada", "api_key")
    assert (info["banned"], info["ban_reason"]) == (True, "noise")
    assert await manager.unban_identifier("ada")
    assert not await manager.unban_identifier("ada")


@pytest.mark.parametrize("duration", [0, -1, float("nan"), float("inf")])
async def test_ban_needs_a_usable_duration(duration: float) -> None:
    with pytest.raises(InvalidInput, match="duration"):
        await limiter().ban_identifier("ada", duration)


async def test_type_without_a_limit_has_no_info() -> None:
    with pytest.raises(NotFound, match="settings"):
        await limiter().get_rate_limit_info("pack.act", "action")


@pytest.mark.parametrize(
    "limits", [{"ip": "many"}, {"ip": ["5/fortnight"]}, {"address": "5/minute"}, {"ip": "0/minute"}]
)
def test_settings_that_cannot_work_are_refused(limits: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MovingWindowSettings.model_validate({"limits": limits})


def test_settings_keep_defaults_of_what_they_do_not_mention() -> None:
    settings = MovingWindowSettings.model_validate({"limits": {"ip": "100/minute", "user": []}})
    assert settings.parsed("ip") == (RateLimit(100, 60),)
    assert settings.parsed("user") == ()
    assert settings.parsed("api_key") == (RateLimit(1200, 60),)
    assert MovingWindowSettings().parsed("ip") == (RateLimit(600, 60),)


def test_no_window_ever_holds_more_than_the_limit() -> None:
    clock = Clock()
    storage = WindowStorage(clock=clock)
    strategy, item = MovingWindowRateLimiter(storage), RateLimitItemPerSecond(10, 60)
    passed: list[float] = []
    for step in range(5000):
        clock.now += [0.1, 7.0, 0.0, 31.0, 2.5][step % 5]
        if strategy.hit(item, "user", "ada"):
            passed.append(clock.now)
    assert len(passed) > 100
    assert all(later - earlier >= 60 for earlier, later in zip(passed, passed[10:], strict=False))


def test_waiting_as_long_as_told_is_enough_and_no_longer_than_needed() -> None:
    clock = Clock()
    storage = WindowStorage(clock=clock)
    strategy, item = MovingWindowRateLimiter(storage), RateLimitItemPerSecond(3, 60)
    for seconds in (0, 5, 5):
        clock.now += seconds
        assert strategy.hit(item, "user", "ada")
    key = item.key_for("user", "ada")
    assert storage.seconds_until(key, 3, 60, 1) == 50
    assert storage.seconds_until(key, 3, 60, 2) == 55
    assert storage.seconds_until_empty(key, 60) == 60
    clock.now += 49.5
    assert not strategy.test(item, "user", "ada")
    clock.now += 0.5
    assert strategy.hit(item, "user", "ada")
    assert storage.seconds_until("unknown", 3, 60, 1) == 0


def test_old_windows_are_forgotten() -> None:
    clock = Clock()
    storage = WindowStorage(clock=clock)
    for number in range(1000):
        assert storage.acquire_entry(f"key{number}", 5, 60)
    clock.now += 61
    for _ in range(600):
        storage.acquire_entry("busy", 1_000_000, 60)
    assert len(storage) == 1


async def test_no_thread_is_started() -> None:
    before = threading.active_count()
    manager = limiter()
    await manager.check_rate_limit(["user"], identifiers={"user": "ada"})
    assert threading.active_count() == before
    assert (await manager.health_check())["metrics"]["windows"] == 1
    await manager.stop()
    assert (await manager.health_check())["metrics"]["windows"] == 0
