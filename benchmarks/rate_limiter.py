"""The rate limiter against `limits`: three levels in one check, and three checks of the same limits.

In memory the peer is the synchronous moving window on `MemoryStorage`, on Redis the asynchronous one (`redispy`) with
as many connections as it wants. Base04 works through its whole manager: bans are looked up too, each check says how
all limits stand, and the database that keeps the bans is there. Both count the same thousand identifiers a level.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from limits import RateLimitItem, parse
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter as AsyncMovingWindow
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

from base04.testing.servers.redis import RedisServer
from base04_builtin.database.sqlite.manager import SqliteDatabaseManager
from base04_builtin.database.sqlite.settings import SqliteSettings
from base04_builtin.rate_limiter.gcra import GcraRateLimiterManager
from base04_builtin.rate_limiter.settings import GcraRateLimiterSettings
from base04_builtin.redis.memory import MemoryRedisManager, MemoryRedisSettings
from base04_builtin.redis.server import ServerRedisManager, ServerRedisSettings
from base04_hookspecs.rate_limiter import RateLimiterManager
from base04_hookspecs.redis import RedisManager

LIMIT: Final = "100000/minute"
TYPES: Final = ("ip", "user", "api_key")
PEOPLE: Final = 1000
Who = dict[str, str]


def people() -> Iterator[Who]:
    """Return callers in turn, without end."""
    all_of_them = [
        {"ip": f"10.0.{number // 250}.{number % 250}", "user": f"user-{number}", "api_key": f"key-{number}"}
        for number in range(PEOPLE)
    ]
    return itertools.cycle(all_of_them)


@asynccontextmanager
async def limiter(folder: Path, redis: RedisManager) -> AsyncIterator[RateLimiterManager]:
    database = SqliteDatabaseManager(SqliteSettings(path=folder / "bans.sqlite3"))
    settings = GcraRateLimiterSettings.model_validate({"limits": dict.fromkeys(TYPES, LIMIT)})
    managers = (redis, database, GcraRateLimiterManager(settings, redis, database))
    try:
        for manager in managers:
            await manager.start()
        yield managers[2]
    finally:
        for manager in reversed(managers):
            await manager.stop()


def shown(name: str, ours: list[float], theirs: list[float], unit: str, ratios: list[float]) -> None:
    print(
        f"{name:<34} {statistics.median(ours):9,.2f} {unit}   limits {statistics.median(theirs):9,.2f} {unit}"
        f"   {statistics.median(ratios):6.2f} x   [{min(ratios):.2f} .. {max(ratios):.2f}]"
    )


async def in_memory(folder: Path, rounds: int, times: int) -> None:
    async with limiter(folder, MemoryRedisManager(MemoryRedisSettings())) as manager:
        await compare_in_memory("memory, against fixed window", FixedWindowRateLimiter, manager, rounds, times)
        await compare_in_memory("memory, against moving window", MovingWindowRateLimiter, manager, rounds, times)


async def compare_in_memory(
    name: str,
    strategy: Callable[[Any], FixedWindowRateLimiter | MovingWindowRateLimiter],
    manager: RateLimiterManager,
    rounds: int,
    times: int,
) -> None:
    peer, item = strategy(MemoryStorage()), parse(LIMIT)
    everybody = people()

    async def ours() -> float:
        began = time.process_time()
        for _ in range(times):
            result = await manager.check_rate_limit(TYPES, identifiers=next(everybody))
        assert result["allowed"]
        return (time.process_time() - began) / times * 1e6

    def theirs() -> float:
        began = time.process_time()
        for _ in range(times):
            who = next(everybody)
            hits = [peer.hit(item, limit_type, who[limit_type]) for limit_type in TYPES]
        assert all(hits)
        return (time.process_time() - began) / times * 1e6

    await ours(), theirs()
    pairs = [(await ours(), theirs()) for _ in range(rounds)]
    own, other = [one for one, _ in pairs], [one for _, one in pairs]
    shown(name, own, other, "us", [peers / mine for mine, peers in pairs])


async def rate(step: Callable[[Who], Awaitable[object]], callers: int, seconds: float) -> float:
    """Return how many steps a second the callers do together."""
    give_up, everybody = time.perf_counter() + seconds, people()

    async def caller() -> int:
        done = 0
        while time.perf_counter() < give_up:
            await step(next(everybody))
            done += 1
        return done

    began = time.perf_counter()
    counts = await asyncio.gather(*(caller() for _ in range(callers)))
    return sum(counts) / (time.perf_counter() - began)


async def on_redis(folder: Path, rounds: int, seconds: float) -> None:
    with RedisServer(folder / "redis") as server:
        peer = AsyncMovingWindow(RedisStorage(f"async+{server.url}", implementation="redispy"))
        item: RateLimitItem = parse(LIMIT)

        async def theirs(who: Who) -> None:
            for limit_type in TYPES:
                await peer.hit(item, limit_type, who[limit_type])

        redis = ServerRedisManager(ServerRedisSettings.model_validate({"url": server.url}))
        async with limiter(folder / "server", redis) as manager:

            async def ours(who: Who) -> None:
                await manager.check_rate_limit(TYPES, identifiers=who)

            for callers in (1, 32):
                await rate(ours, callers, seconds / 4), await rate(theirs, callers, seconds / 4)
                pairs = [
                    (await rate(ours, callers, seconds), await rate(theirs, callers, seconds)) for _ in range(rounds)
                ]
                own, other = [one for one, _ in pairs], [one for _, one in pairs]
                ratios = [mine / peers for mine, peers in pairs]
                shown(f"Redis, {callers} callers, against moving", own, other, "/s", ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--times", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=0.5)
    options = parser.parse_args()
    print(f"three levels in one check, {options.rounds} rounds: median [minimum .. maximum]")
    with tempfile.TemporaryDirectory() as name:
        for part in ("memory", "server", "redis"):
            (Path(name) / part).mkdir()
        asyncio.run(in_memory(Path(name) / "memory", options.rounds, options.times))
        asyncio.run(on_redis(Path(name), options.rounds, options.seconds))


if __name__ == "__main__":
    main()
