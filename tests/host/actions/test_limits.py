"""What the host counts a call as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from base04.actions.limits import ALL, Limits, RouteChoices, caller_of, check_own_limits
from base04_hookspecs.context import ANONYMOUS, Principal
from base04_hookspecs.errors import InvalidToken, RateLimited
from base04_hookspecs.rate_limiter import RateLimit, RateLimiterManager, RateLimitResult
from rate_limiter_kit import limiter

ADA = Principal("ada", method="api_key", api_key_id="key")


@pytest.mark.parametrize(
    ("choices", "path", "choice"),
    [
        (None, "/auth/token", None),
        ("closed", "/anything", "closed"),
        ({"/auth/*": "closed", "*": "local"}, "/auth/token", "closed"),
        ({"/auth/*": "closed", "*": "local"}, "/managers", "local"),
        ({"/auth/*": "closed"}, "/managers", None),
        ({"*": "open", "/auth/*": "closed"}, "/auth/token", "open"),
        ({"/AUTH/*": "closed"}, "/auth/token", None),
    ],
)
def test_first_pattern_that_fits_decides(choices: Any, path: str, choice: str | None) -> None:
    assert RouteChoices(choices).of(path) == choice


async def test_nothing_is_limited_without_a_limiter() -> None:
    limits = Limits(lambda role: None)
    assert await limits.count(ALL, ADA, "192.0.2.1", "/x", "act", [RateLimit(1, 60)]) == ()


async def test_call_is_counted_at_each_level_that_has_somebody() -> None:
    async with limiter(limits={"ip": "9/day", "user": "8/day", "api_key": "7/day"}) as manager:
        limits = Limits(lambda role: manager)
        own = [RateLimit(2, 60), RateLimit(5, 3600)]
        states = await limits.count(ALL, ADA, "192.0.2.1", "/x", "pack.act", own)
        assert [(one["limit_type"], one["identifier"], one["remaining"]) for one in states] == [
            ("ip", "192.0.2.1", 8),
            ("user", "ada", 7),
            ("api_key", "key", 6),
            ("action", "pack.act:ada", 1),
            ("action", "pack.act:ada", 4),
        ]
        stranger = await limits.count(ALL, ANONYMOUS, "192.0.2.1", "/x")
        assert [(one["limit_type"], one["remaining"]) for one in stranger] == [("ip", 7)]
        assert await limits.count(ALL, ANONYMOUS, None, "/x") == ()


async def test_refusal_says_who_refuses_and_counts_nothing() -> None:
    async with limiter(limits={"ip": "9/day", "user": "1/day"}) as manager:
        limits = Limits(lambda role: manager)
        await limits.count(ALL, ADA, "192.0.2.1", "/x")
        with pytest.raises(RateLimited, match="again") as caught:
            await limits.count(ALL, ADA, "192.0.2.1", "/x")
        assert list(caught.value.exceeded) == ["user"]
        assert 0 < (caught.value.retry_after or 0) <= 86_400
        assert (await manager.get_rate_limit_info("192.0.2.1", "ip"))["remaining"] == 8


@pytest.mark.parametrize(
    ("claims", "level", "limit"),
    [
        ({}, "api_key", 7),
        ({"rate_limit": "2/hour"}, "api_key", 2),
    ],
)
async def test_limit_of_a_key_takes_the_place_of_the_usual(claims: dict[str, Any], level: str, limit: int) -> None:
    async with limiter(limits={"api_key": "7/day"}) as manager:
        principal = Principal("ada", method="api_key", api_key_id="key", claims=claims)
        states = await Limits(lambda role: manager).count(("api_key",), principal, None, "/x")
        assert [(one["limit_type"], one["limit"]) for one in states] == [(level, limit)]


@pytest.mark.parametrize("own", ["often", "0/day", ["5/day"], 5])
def test_own_limit_that_cannot_be_read_is_no_way_around_limits(own: object) -> None:
    with pytest.raises(InvalidToken):
        check_own_limits(Principal("ada", method="token", claims={"rate_limit": own}))


@pytest.mark.parametrize(
    ("principal", "address", "caller"),
    [
        (ADA, "192.0.2.1", "ada"),
        (Principal(None, method="api_key", api_key_id="key"), "192.0.2.1", "key"),
        (ANONYMOUS, "192.0.2.1", "192.0.2.1"),
        (ANONYMOUS, "2001:db8::1", "2001:db8::/64"),
        (ANONYMOUS, "fe80::1%eth0", "fe80::/64"),
        (ANONYMOUS, None, "anonymous"),
    ],
)
def test_limit_of_an_action_counts(principal: Principal, address: str | None, caller: str) -> None:
    assert caller_of(principal, address) == caller


async def test_violation_costs_the_address_and_never_raises() -> None:
    async with limiter(limits={"ip": "9/day"}) as manager:
        limits = Limits(lambda role: manager)
        for cost, remaining in ((0, 9), (4, 5), (6, 5)):
            await limits.charge("192.0.2.1", "/x", cost)
            assert (await manager.get_rate_limit_info("192.0.2.1", "ip"))["remaining"] == remaining
        await limits.charge(None, "/x", 4)


async def test_choice_of_the_route_goes_with_the_call() -> None:
    seen: list[Mapping[str, Any]] = []
    async with limiter() as manager:

        class Recorder:
            async def check_rate_limit(self, limit_types: Sequence[str], **values: Any) -> RateLimitResult:
                seen.append(values)
                return await manager.check_rate_limit(limit_types, **values)

        recorder = cast("RateLimiterManager", Recorder())
        limits = Limits(lambda role: recorder, RouteChoices({"/auth/*": "closed"}))
        await limits.count(ALL, ADA, "192.0.2.1", "/auth/token")
        await limits.count(ALL, ADA, "192.0.2.1", "/managers")
    assert [values.get("on_unavailable") for values in seen] == ["closed", None]
