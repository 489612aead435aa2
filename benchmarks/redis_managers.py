"""Redis managers against their peers: `server` against bare redis-py asyncio, `memory` against fakeredis.

Both managers store JSON and so do the peers here: what is measured is a dict set and a dict got. The two take turns in
one process and, for `server`, on one server that is started for it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import fakeredis
from redis.asyncio import Redis

from base04.testing.servers.redis import RedisServer
from base04_builtin.redis.memory import MemoryRedisManager, MemoryRedisSettings
from base04_builtin.redis.server import ServerRedisManager, ServerRedisSettings
from base04_hookspecs.redis import RedisManager

VALUE: Final = {"user_id": 123, "login_time": "2024-01-01T10:00:00Z", "roles": ["reader", "writer"]}
Step = Callable[[str], Awaitable[object]]


class Peer:
    """A bare client, used as one would by hand."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def set(self, key: str) -> None:
        await self._client.set(key, json.dumps(VALUE), px=60_000)

    async def get(self, key: str) -> Any:
        return json.loads(await self._client.get(key))

    async def set_and_get(self, key: str) -> None:
        await self.set(key)
        await self.get(key)


class Ours:
    """A manager, used for the same."""

    def __init__(self, manager: RedisManager) -> None:
        self._manager = manager

    async def set(self, key: str) -> None:
        await self._manager.set(key, VALUE, ttl=60)

    async def get(self, key: str) -> Any:
        return await self._manager.get(key)

    async def set_and_get(self, key: str) -> None:
        await self.set(key)
        await self.get(key)


async def rate(step: Step, callers: int, seconds: float) -> float:
    """Return how many steps a second the callers do together."""
    give_up = time.perf_counter() + seconds

    async def caller(number: int) -> int:
        done = 0
        while time.perf_counter() < give_up:
            for _ in range(10):
                await step(f"benchmark:{number}:{done % 100}")
                done += 1
        return done

    began = time.perf_counter()
    counts = await asyncio.gather(*(caller(number) for number in range(callers)))
    return sum(counts) / (time.perf_counter() - began)


async def compare(name: str, ours: Step, peer: Step, *, callers: int, rounds: int, seconds: float) -> None:
    await rate(ours, callers, seconds / 4)
    await rate(peer, callers, seconds / 4)
    ours_rates, peer_rates = [], []
    for _ in range(rounds):
        ours_rates.append(await rate(ours, callers, seconds))
        peer_rates.append(await rate(peer, callers, seconds))
    ratios = [one / other for one, other in zip(ours_rates, peer_rates, strict=True)]
    print(
        f"{name:<34} {statistics.median(ours_rates):>9,.0f}/s  peer {statistics.median(peer_rates):>8,.0f}/s"
        f"   ratio {statistics.median(ratios):6.2f}   [{min(ratios):.2f} .. {max(ratios):.2f}]"
    )


async def on_server(folder: Path, rounds: int, seconds: float) -> None:
    with RedisServer(folder) as server:
        manager = ServerRedisManager(ServerRedisSettings.model_validate({"url": server.url}))
        client = Redis.from_url(server.url)
        await manager.start()
        try:
            ours, peer = Ours(manager), Peer(client)
            for callers in (1, 16):
                for name in ("set", "get", "set_and_get"):
                    await compare(
                        f"server: {name}, {callers} callers",
                        getattr(ours, name),
                        getattr(peer, name),
                        callers=callers,
                        rounds=rounds,
                        seconds=seconds,
                    )
        finally:
            await client.aclose()
            await manager.stop()


async def in_memory(rounds: int, seconds: float) -> None:
    manager = MemoryRedisManager(MemoryRedisSettings())
    client = fakeredis.FakeAsyncRedis()
    await manager.start()
    try:
        ours, peer = Ours(manager), Peer(client)
        for name in ("set", "get", "set_and_get"):
            await compare(
                f"memory: {name}",
                getattr(ours, name),
                getattr(peer, name),
                callers=1,
                rounds=rounds,
                seconds=seconds,
            )
    finally:
        await client.aclose()
        await manager.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.4)
    options = parser.parse_args()
    print(f"a dict of {len(json.dumps(VALUE))} bytes as JSON, {options.rounds} rounds: median [minimum .. maximum]")
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(on_server(Path(name), options.rounds, options.seconds))
    asyncio.run(in_memory(options.rounds, options.seconds))


if __name__ == "__main__":
    main()
