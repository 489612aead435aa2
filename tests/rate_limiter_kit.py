"""Rate limiters of their own stores, for tests."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import pytest

from base04.testing.conformance.rate_limiter import AUTO_BAN, CONFIGURED, Another, RateLimiterConformance
from base04_builtin.database.sqlite.manager import SqliteDatabaseManager
from base04_builtin.database.sqlite.settings import SqliteSettings
from base04_builtin.rate_limiter import rate_limiter_providers
from base04_builtin.rate_limiter.gcra import GcraRateLimiterManager
from base04_builtin.rate_limiter.settings import GcraRateLimiterSettings
from base04_builtin.redis.memory import MemoryRedisManager, MemoryRedisSettings
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.manager import Manager
from base04_hookspecs.rate_limiter import RateLimit, RateLimiterManager
from base04_hookspecs.redis import RedisManager

NOW_MS: Final = 1_800_000_000_000
"""When tests with a clock of their own take place."""


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


SUITE: Final = {"limits": CONFIGURED, "auto_ban": AUTO_BAN}
"""The settings that the conformance suite asks for."""


class GcraModel:
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


def sqlite_in(folder: Path) -> SqliteDatabaseManager:
    return SqliteDatabaseManager(SqliteSettings(path=folder / "bans.sqlite3"))


@asynccontextmanager
async def running(*managers: Manager) -> AsyncIterator[None]:
    """Start managers in their order, and stop them in the other."""
    async with AsyncExitStack() as stack:
        for manager in managers:
            stack.push_async_callback(manager.stop)
            await manager.start()
        yield


@asynccontextmanager
async def limiter(
    redis: RedisManager | None = None, database: DatabaseManager | None = None, **settings: Any
) -> AsyncIterator[GcraRateLimiterManager]:
    """A started limiter: in memory, with bans in a file of its own, or on managers that somebody else starts."""
    with tempfile.TemporaryDirectory() as folder:
        own_redis = redis or MemoryRedisManager(MemoryRedisSettings())
        own_database = database or sqlite_in(Path(folder))
        manager = GcraRateLimiterManager(GcraRateLimiterSettings.model_validate(settings), own_redis, own_database)
        own = [one for one, given in ((own_redis, redis), (own_database, database)) if given is None]
        async with running(*own, manager):
            yield manager


@asynccontextmanager
async def process(
    redis: RedisManager, database: DatabaseManager, **settings: Any
) -> AsyncIterator[GcraRateLimiterManager]:
    """A started limiter on managers of its own, as a process would have."""
    async with running(redis, database), limiter(redis, database, **settings) as manager:
        yield manager


class GcraConformance(RateLimiterConformance):
    """The suite of the role for the provider ``gcra``; the stores come with the fixture ``another``."""

    capabilities = next(iter(rate_limiter_providers())).capabilities

    @pytest.fixture
    async def manager(self, another: Another) -> AsyncIterator[RateLimiterManager]:
        async with another() as started:
            yield started
