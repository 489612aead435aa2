"""What every provider of the role ``rate_limiter`` does."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from random import SystemRandom
from typing import Any, ClassVar, Final

import pytest

from base04.testing.conformance.declared import DeclaredCapabilities
from base04_hookspecs.context import Principal, RequestContext, use_request
from base04_hookspecs.errors import InvalidInput, NotSupported
from base04_hookspecs.rate_limiter import RateLimit, RateLimiterManager

CONFIGURED: Final[Mapping[str, list[str]]] = {
    "ip": ["5/hour"],
    "user": ["3/hour", "20/day"],
    "api_key": ["4/hour"],
}
"""The limits that the manager under test is configured with."""

AUTO_BAN: Final[Mapping[str, Any]] = {"violations": 30, "window": 3600, "duration": 600, "types": ["api_key"]}
"""When the manager under test bans by itself, if it can: who is refused so often in so many seconds, for so many."""

Another = Callable[[], AbstractAsyncContextManager[RateLimiterManager]]
"""Starts one more manager as another process would: it shares what servers and databases keep, and no memory."""

SHORT: Final = RateLimit(3, 1)
"""A limit for tests that wait for it to pass."""


def somebody() -> str:
    """Return an identifier that no other test uses."""
    return uuid.uuid4().hex


def some_address() -> str:
    """Return an address that is unlikely to be used by another test."""
    return ".".join(["10", *(str(SystemRandom().randrange(256)) for _ in range(3))])


async def use_up(manager: RateLimiterManager, limit_type: str, identifier: str) -> int:
    """Call until it is refused and return how many calls were let through."""
    for allowed in range(100):
        if not (await manager.check_rate_limit([limit_type], identifiers={limit_type: identifier}))["allowed"]:
            return allowed
    raise AssertionError(f"{limit_type!r} never refused")


class RateLimiterConformance(DeclaredCapabilities):
    """Subclass it, give it the fixtures ``manager`` and ``another``, and say what it can.

    ``manager`` is started, configured with ``CONFIGURED`` and, where it can ban by itself, with ``AUTO_BAN``;
    ``another`` (see ``Another``) starts its like beside it. A capability that is declared and missing fails the suite,
    and so does one that is there and not declared. Add ``shared`` where the ``redis`` role that it counts on is.
    """

    known_capabilities: ClassVar[frozenset[str]] = frozenset(
        {"atomic_levels", "burst", "exact", "bans", "durable_bans", "auto_ban", "shared"}
    )

    async def test_limit_refuses_once_it_is_used_up(self, manager: RateLimiterManager) -> None:
        who = somebody()
        if "burst" in self.capabilities:
            assert await use_up(manager, "user", who) == 3
        else:
            assert 1 <= await use_up(manager, "user", who) < 3
        result = await manager.check_rate_limit(["user"], identifiers={"user": who})
        assert result["allowed"] is False
        assert result["exceeded_types"] == ["user"]
        assert result["banned"] == []
        assert 0 < result["retry_after"] <= 3600
        assert (await manager.check_rate_limit(["user"], identifiers={"user": somebody()}))["allowed"] is True

    async def test_result_describes_each_limit(self, manager: RateLimiterManager) -> None:
        who = somebody()
        result = await manager.check_rate_limit(["user"], identifiers={"user": who})
        assert result["allowed"] is True
        assert result["exceeded_types"] == []
        assert result["retry_after"] == 0
        described = {(one["limit"], one["window"]): one for one in result["limits"]}
        assert set(described) == {(3, 3600), (20, 86400)}
        for one in described.values():
            assert (one["limit_type"], one["identifier"]) == ("user", who)
            assert one["remaining"] == one["limit"] - 1
            assert 0 < one["reset_after"] <= one["window"]

    async def test_place_comes_back_after_retry_after(self, manager: RateLimiterManager) -> None:
        who, limits = somebody(), {"action": [SHORT]}
        for _ in range(50):
            result = await manager.check_rate_limit(["action"], identifiers={"action": who}, limits=limits)
            if not result["allowed"]:
                break
        assert result["allowed"] is False
        async with asyncio.timeout(20):
            while not result["allowed"]:
                assert result["retry_after"] > 0
                await asyncio.sleep(result["retry_after"])
                result = await manager.check_rate_limit(["action"], identifiers={"action": who}, limits=limits)

    async def test_exact_limit_holds_in_every_window(self, manager: RateLimiterManager) -> None:
        """A limit that is not exact shows it soon; one that is never does, for as long as a test can wait."""
        exact = "exact" in self.capabilities
        who, admitted = somebody(), list[tuple[float, float]]()
        began, crowded = time.monotonic(), False
        while not crowded and time.monotonic() - began < (3 if exact else 60):
            before = time.monotonic()
            result = await manager.check_rate_limit(["action"], identifiers={"action": who}, limits={"action": [SHORT]})
            if result["allowed"]:
                admitted.append((before, time.monotonic()))
                (earliest, _), (_, last) = admitted[-SHORT.amount - 1 :][0], admitted[-1]
                crowded = len(admitted) > SHORT.amount and last - earliest < SHORT.period_s
            await asyncio.sleep(0.005)
        assert len(admitted) > SHORT.amount
        assert crowded is not exact

    async def test_concurrent_callers_get_no_more_than_the_limit(self, manager: RateLimiterManager) -> None:
        who = somebody()
        results = await asyncio.gather(
            *(manager.check_rate_limit(["api_key"], identifiers={"api_key": who}) for _ in range(20))
        )
        allowed = sum(result["allowed"] for result in results)
        assert allowed == 4 if "burst" in self.capabilities else 1 <= allowed <= 4

    async def test_refusal_of_one_level_consumes_none(self, manager: RateLimiterManager) -> None:
        user, key, address = somebody(), somebody(), some_address()
        await use_up(manager, "user", user)
        who = {"api_key": key, "user": user, "ip": address}
        for order in (["api_key", "user", "ip"], ["ip", "user", "api_key"]):
            result = await manager.check_rate_limit(order, identifiers=who)
            assert result["exceeded_types"] == ["user"]
        left = [(await manager.get_rate_limit_info(who[kind], kind))["remaining"] for kind in ("api_key", "ip")]
        assert (left == [4, 5]) is ("atomic_levels" in self.capabilities)

    async def test_cost_consumes_that_much(self, manager: RateLimiterManager) -> None:
        who = {"ip": some_address()}
        first = await manager.check_rate_limit(["ip"], identifiers=who, cost=4)
        assert first["allowed"] is ("burst" in self.capabilities)
        if first["allowed"]:
            assert (await manager.check_rate_limit(["ip"], identifiers=who, cost=2))["allowed"] is False
            assert (await manager.check_rate_limit(["ip"], identifiers=who))["allowed"] is True

    async def test_cost_beyond_the_limit_is_never_allowed(self, manager: RateLimiterManager) -> None:
        who = {"user": somebody()}
        result = await manager.check_rate_limit(["user"], identifiers=who, cost=4)
        assert result["allowed"] is False
        assert result["retry_after"] > 0

    async def test_info_consumes_nothing(self, manager: RateLimiterManager) -> None:
        who = somebody()
        for _ in range(10):
            info = await manager.get_rate_limit_info(who, "user")
        assert (info["identifier"], info["limit_type"]) == (who, "user")
        assert (info["limit"], info["window"], info["remaining"]) == (3, 3600, 3)
        assert (info["banned"], info["ban_reason"], info["ban_expires_at"]) == (False, None, None)
        await manager.check_rate_limit(["user"], identifiers={"user": who})
        assert (await manager.get_rate_limit_info(who, "user"))["remaining"] == 2

    async def test_reset_forgets_what_was_consumed(self, manager: RateLimiterManager) -> None:
        who, other = somebody(), somebody()
        await use_up(manager, "user", who)
        await use_up(manager, "user", other)
        assert await manager.reset_rate_limit(who, "user") is True
        assert await manager.reset_rate_limit(who, "user") is False
        assert (await manager.check_rate_limit(["user"], identifiers={"user": who}))["allowed"] is True
        assert (await manager.check_rate_limit(["user"], identifiers={"user": other}))["allowed"] is False

    async def test_identifiers_come_from_the_request(self, manager: RateLimiterManager) -> None:
        principal = Principal(user_id=somebody(), method="api_key", api_key_id=somebody())
        request = RequestContext("1", principal, client_ip=some_address(), action="pack.action")
        with use_request(request):
            result = await manager.check_rate_limit(["ip", "user", "api_key", "action"])
        assert {(one["limit_type"], one["identifier"]) for one in result["limits"]} == {
            ("ip", request.client_ip),
            ("user", principal.user_id),
            ("api_key", principal.api_key_id),
        }

    async def test_given_identifier_takes_the_place_of_the_requests(self, manager: RateLimiterManager) -> None:
        who = somebody()
        with use_request(RequestContext("1", Principal(user_id=somebody(), method="token"))):
            result = await manager.check_rate_limit(["user"], identifiers={"user": who})
        assert {one["identifier"] for one in result["limits"]} == {who}

    async def test_type_without_identifier_is_skipped(self, manager: RateLimiterManager) -> None:
        for _ in range(10):
            result = await manager.check_rate_limit(["ip", "user", "api_key", "action"])
            assert result["allowed"] is True
            assert result["limits"] == []

    async def test_given_limits_take_the_place_of_the_configured(self, manager: RateLimiterManager) -> None:
        who = {"user": somebody()}
        for _ in range(10):
            assert (await manager.check_rate_limit(["user"], identifiers=who, limits={"user": []}))["allowed"] is True
        wide = {"user": [RateLimit(50, 3600)]}
        result = await manager.check_rate_limit(["user"], identifiers=who, limits=wide)
        assert [(one["limit"], one["window"]) for one in result["limits"]] == [(50, 3600)]

    async def test_ipv6_addresses_count_by_64(self, manager: RateLimiterManager) -> None:
        network = f"2001:db8:{SystemRandom().randrange(16**4):x}:{SystemRandom().randrange(16**4):x}"
        await use_up(manager, "ip", f"{network}::1")
        same = await manager.check_rate_limit(["ip"], identifiers={"ip": f"{network}:ffff::2"})
        assert same["allowed"] is False
        other = await manager.check_rate_limit(["ip"], identifiers={"ip": f"2001:db9:{network[9:]}::1"})
        assert other["allowed"] is True

    async def test_bad_requests_are_refused(self, manager: RateLimiterManager) -> None:
        with pytest.raises(InvalidInput, match="planet"):
            await manager.check_rate_limit(["planet"])
        with pytest.raises(InvalidInput):
            await manager.get_rate_limit_info("x", "planet")
        with pytest.raises(InvalidInput):
            await manager.reset_rate_limit("x", "planet")
        for cost in (0, -1):
            with pytest.raises(InvalidInput):
                await manager.check_rate_limit(["user"], identifiers={"user": somebody()}, cost=cost)

    async def test_ban_refuses_until_it_is_lifted(self, manager: RateLimiterManager) -> None:
        if not await self._offers_bans(manager):
            return
        who = some_address()
        assert await manager.ban_identifier(who, duration=3600, reason="too curious") is True
        result = await manager.check_rate_limit(["ip"], identifiers={"ip": who})
        assert result["allowed"] is False
        assert result["banned"] == ["ip"]
        assert 3500 < result["retry_after"] <= 3600
        info = await manager.get_rate_limit_info(who, "ip")
        assert (info["banned"], info["ban_reason"], info["remaining"]) == (True, "too curious", 5)
        assert abs((info["ban_expires_at"] or 0) - time.time() - 3600) < 60
        assert await manager.unban_identifier(who) is True
        assert await manager.unban_identifier(who) is False
        assert (await manager.check_rate_limit(["ip"], identifiers={"ip": who}))["allowed"] is True

    async def test_ban_without_end_has_none(self, manager: RateLimiterManager) -> None:
        if not await self._offers_bans(manager):
            return
        who = somebody()
        await manager.ban_identifier(who)
        for limit_type in ("user", "api_key"):
            result = await manager.check_rate_limit([limit_type], identifiers={limit_type: who})
            assert result["banned"] == [limit_type]
            assert result["retry_after"] > 0
        info = await manager.get_rate_limit_info(who, "user")
        assert (info["banned"], info["ban_expires_at"]) == (True, None)

    async def test_ban_of_one_type_leaves_others(self, manager: RateLimiterManager) -> None:
        if not await self._offers_bans(manager):
            return
        who = somebody()
        await manager.ban_identifier(who, limit_type="user")
        assert (await manager.check_rate_limit(["user"], identifiers={"user": who}))["allowed"] is False
        assert (await manager.check_rate_limit(["api_key"], identifiers={"api_key": who}))["allowed"] is True

    async def test_ban_ends_by_itself(self, manager: RateLimiterManager) -> None:
        if not await self._offers_bans(manager):
            return
        who = somebody()
        await manager.ban_identifier(who, duration=0.05, limit_type="user")
        async with asyncio.timeout(20):
            while True:
                result = await manager.check_rate_limit(["user"], identifiers={"user": who})
                if result["allowed"]:
                    break
                await asyncio.sleep(result["retry_after"])

    async def test_ban_in_vain_is_refused(self, manager: RateLimiterManager) -> None:
        if not await self._offers_bans(manager):
            return
        for duration in (0, -5, float("nan")):
            with pytest.raises(InvalidInput):
                await manager.ban_identifier(somebody(), duration=duration)

    async def test_bans_outlive_what_holds_them_if_declared(
        self, manager: RateLimiterManager, another: Another
    ) -> None:
        if not await self._offers_bans(manager):
            return
        user, address = somebody(), some_address()
        await manager.ban_identifier(user, limit_type="user", reason="for good")
        await manager.ban_identifier(address, 600, reason="for a while")
        async with another() as later:
            result = await later.check_rate_limit(["ip", "user"], identifiers={"ip": address, "user": user})
            assert (result["banned"] == ["ip", "user"]) is ("durable_bans" in self.capabilities)
            if "durable_bans" in self.capabilities:
                assert 500 < (await later.check_rate_limit(["ip"], identifiers={"ip": address}))["retry_after"] <= 600
                assert (await later.get_rate_limit_info(user, "user"))["ban_reason"] == "for good"
                assert await later.unban_identifier(user) is True
        if "durable_bans" in self.capabilities:
            async with another() as latest:
                result = await latest.check_rate_limit(["ip", "user"], identifiers={"ip": address, "user": user})
                assert result["banned"] == ["ip"]

    async def test_who_is_refused_too_often_is_banned_if_declared(
        self, manager: RateLimiterManager, another: Another
    ) -> None:
        key, user = somebody(), somebody()
        for limit_type, who in (("api_key", key), ("user", user)):
            await use_up(manager, limit_type, who)
            for _ in range(AUTO_BAN["violations"] - 2):
                refused = await manager.check_rate_limit([limit_type], identifiers={limit_type: who})
                assert (refused["allowed"], refused["banned"]) == (False, [])
            for _ in range(3):
                refused = await manager.check_rate_limit([limit_type], identifiers={limit_type: who})
            banned = limit_type == "api_key" and "auto_ban" in self.capabilities
            assert refused["banned"] == ([limit_type] if banned else [])
        if "auto_ban" not in self.capabilities:
            return
        info = await manager.get_rate_limit_info(key, "api_key")
        assert info["banned"] is True
        assert info["ban_reason"]
        assert abs((info["ban_expires_at"] or 0) - time.time() - AUTO_BAN["duration"]) < 60
        assert await manager.unban_identifier(key) is True
        assert (await manager.check_rate_limit(["api_key"], identifiers={"api_key": key}))["banned"] == []

    async def test_processes_count_together_if_declared(self, manager: RateLimiterManager, another: Another) -> None:
        shared, who = "shared" in self.capabilities, {"user": somebody()}
        await use_up(manager, "user", who["user"])
        async with another() as other:
            assert (await other.check_rate_limit(["user"], identifiers=who))["allowed"] is not shared
            if "bans" in self.capabilities:
                culprit = some_address()
                await manager.ban_identifier(culprit, 600)
                result = await other.check_rate_limit(["ip"], identifiers={"ip": culprit})
                assert (result["banned"] == ["ip"]) is shared
                await manager.unban_identifier(culprit)
                assert (await other.check_rate_limit(["ip"], identifiers={"ip": culprit}))["allowed"] is True
            assert await other.reset_rate_limit(who["user"], "user") is True
        assert (await manager.check_rate_limit(["user"], identifiers=who))["allowed"] is shared

    async def test_health_is_complete(self, manager: RateLimiterManager) -> None:
        report = await manager.health_check()
        assert report["status"] == "healthy"
        assert {"connections", "errors", "response_time"} <= report["metrics"].keys()

    async def _offers_bans(self, manager: RateLimiterManager) -> bool:
        """Tell whether the provider declares bans; one that does not refuses them."""
        if "bans" in self.capabilities:
            return True
        with pytest.raises(NotSupported):
            await manager.ban_identifier(somebody())
        return False
