"""The provider ``signed`` on real servers: Redis killed, paused and restarted; PostgreSQL for the truth."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from base04.testing.conformance.jwt import JWTConformance
from base04.testing.servers.redis import RedisServer
from base04_builtin.jwt import jwt_providers
from base04_builtin.jwt.settings import JWTSettings
from base04_builtin.jwt.signed import SignedJWTManager
from base04_hookspecs.redis import RedisManager
from jwt_kit import Parts, parts, until, verdict
from postgres_kit import postgres, postgres_url
from postgres_kit import started as postgres_started
from redis_kit import QUICK
from redis_kit import started as redis_started

__all__ = ["parts", "postgres", "postgres_url"]

CAPABILITIES = next(iter(jwt_providers())).capabilities - {"jwks"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
async def two(parts: Parts, server: RedisServer) -> AsyncIterator[list[SignedJWTManager]]:
    """Managers of two processes, each with connections of its own."""
    async with AsyncExitStack() as stack:
        managers = []
        for _ in range(2):
            redis: RedisManager = await stack.enter_async_context(redis_started(server.url, **QUICK))
            managers.append(await parts.start(redis, heartbeat_interval=0.05))
        yield managers
        for manager in managers:
            await manager.stop()


async def fed(manager: SignedJWTManager) -> bool:
    return (await manager.health_check())["dependencies"]["redis"] == "healthy"


async def refused_within_a_second_of_looking(manager: SignedJWTManager, token: str) -> None:
    """Wait until a token is refused; it must never be refused and then accepted."""

    async def is_refused() -> bool:
        return await verdict(manager, token) == "it is revoked by its jti"

    await until(is_refused)
    for _ in range(20):
        assert await verdict(manager, token) in ("it is revoked by its jti", "unknown")
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("fault", ["none", "kill", "pause"])
async def test_revocation_reaches_the_other_process(
    two: list[SignedJWTManager], server: RedisServer, fault: str
) -> None:
    here, there = two
    token, other = [await here.create_access_token("123") for _ in range(2)]
    assert await verdict(there, token) == "valid"
    if fault == "kill":
        server.kill()
    elif fault == "pause":
        server.pause()
    assert await here.blacklist_token(token) is True
    assert await verdict(here, token) == "it is revoked by its jti"
    await refused_within_a_second_of_looking(there, token)
    assert await verdict(there, other) == "valid"
    if fault == "kill":
        server.start()
    elif fault == "pause":
        server.resume()
    for manager in two:

        async def is_fed(manager: SignedJWTManager = manager) -> bool:
            return await fed(manager)

        await until(is_fed)
        assert await verdict(manager, token) == "it is revoked by its jti"


async def test_what_was_revoked_during_an_outage_is_known_after_it(
    parts: Parts, two: list[SignedJWTManager], server: RedisServer
) -> None:
    here, there = two
    tokens = [await here.create_access_token("123") for _ in range(5)]
    server.kill()
    for token in tokens:
        await here.blacklist_token(token)

    async def is_deaf() -> bool:
        return not await fed(there)

    async def is_fed() -> bool:
        return await fed(there)

    await until(is_deaf)  # for a second what came before the outage still counts
    server.start()
    await until(is_fed)
    parts.database.cut_off = True
    found = {await verdict(there, token) for token in tokens}
    parts.database.cut_off = False
    assert "valid" not in found


async def test_neither_redis_nor_database_refuses(
    parts: Parts, two: list[SignedJWTManager], server: RedisServer
) -> None:
    token = await two[0].create_access_token("123")
    server.kill()
    parts.database.cut_off = True

    async def is_unknown() -> bool:
        return await verdict(two[1], token) == "unknown"

    await until(is_unknown)

    async def is_reported() -> bool:
        return not await fed(two[1])

    await until(is_reported)
    parts.database.cut_off = False
    assert await verdict(two[1], token) == "valid"


class TestSignedOnRedis(JWTConformance):
    capabilities = CAPABILITIES

    @pytest.fixture
    async def manager(self, parts: Parts, server: RedisServer) -> AsyncIterator[SignedJWTManager]:
        async with redis_started(server.url) as redis:
            manager = await parts.start(redis)
            yield manager
            await manager.stop()


class TestSignedOnPostgresql(JWTConformance):
    capabilities = CAPABILITIES

    @pytest.fixture
    async def manager(self, parts: Parts, postgres_url: str) -> AsyncIterator[SignedJWTManager]:
        async with postgres_started(postgres_url) as database:
            manager = SignedJWTManager(JWTSettings(), database, parts.redis, parts.vault)
            try:
                await manager.start()
                yield manager
            finally:
                await manager.stop()
