"""The provider ``gcra`` of the role ``rate_limiter``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from base04.testing.conformance.rate_limiter import CONFIGURED, Another
from base04_builtin.rate_limiter.gcra import GcraRateLimiterManager
from base04_builtin.rate_limiter.identifiers import normalised_address, subject_for
from base04_builtin.rate_limiter.settings import GcraRateLimiterSettings
from base04_builtin.redis.memory import MemoryRedisManager, MemoryRedisSettings
from base04_hookspecs.errors import InvalidInput, NotFound
from base04_hookspecs.rate_limiter import RateLimit
from rate_limiter_kit import SUITE, GcraConformance, limiter, process, sqlite_in


@pytest.fixture
async def manager() -> AsyncIterator[GcraRateLimiterManager]:
    async with limiter(limits=dict(CONFIGURED)) as started:
        yield started


class TestGcraRateLimiter(GcraConformance):
    @pytest.fixture
    def another(self, tmp_path: Path) -> Another:
        return lambda: process(MemoryRedisManager(MemoryRedisSettings()), sqlite_in(tmp_path), **SUITE)


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


async def test_many_callers_of_many_levels_get_exactly_the_limit() -> None:
    async with limiter(limits={"ip": "1000/hour", "user": "70/hour", "api_key": "100/hour"}) as manager:
        who = {"ip": "192.0.2.1", "user": "ada", "api_key": "key"}
        results = await asyncio.gather(
            *(manager.check_rate_limit(["ip", "user", "api_key"], identifiers=who) for _ in range(300))
        )
        assert sum(result["allowed"] for result in results) == 70
        assert (await manager.get_rate_limit_info("192.0.2.1", "ip"))["remaining"] == 930
        assert (await manager.get_rate_limit_info("key", "api_key"))["remaining"] == 30
