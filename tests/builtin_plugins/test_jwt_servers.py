"""The provider ``signed`` on real servers: Redis killed, paused and restarted, and PostgreSQL with the truth in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from base04.testing.servers.postgres import PostgresServer
from base04.testing.servers.redis import RedisServer
from base04_builtin.jwt.settings import JWTSettings
from base04_builtin.jwt.signed import SignedJWTManager
from base04_hookspecs.errors import RevokedToken
from base04_hookspecs.redis import RedisManager
from jwt_kit import Parts, parts, until, verdict
from postgres_kit import started as postgres_started
from redis_kit import QUICK
from redis_kit import started as redis_started

__all__ = ["parts"]


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


async def test_restart_of_everything_revives_nothing(parts: Parts, server: RedisServer) -> None:
    with PostgresServer(fsync=True) as postgres:
        async with postgres_started(postgres.url) as database, redis_started(server.url, **QUICK) as redis:

            async def started() -> SignedJWTManager:
                manager = SignedJWTManager(JWTSettings(heartbeat_interval=0.05), database, redis, parts.vault)
                parts.managers.insert(0, manager)
                await manager.start()
                return manager

            before = await started()
            by_itself, going_on = [await before.create_access_token("123") for _ in range(2)]
            pair = await before.refresh_token(await before.create_refresh_token("456"))
            by_user = await before.create_access_token("789")
            await before.blacklist_token(by_itself)
            await before.blacklist_token(pair["refresh_token"])
            await before.revoke_user_tokens("789")
            for one in (postgres, server):
                one.kill()
                one.start()

            async def is_back() -> bool:
                return await database.check_connection() and await redis.ping()

            await until(is_back)
            for manager in (before, await started()):

                async def knows(manager: SignedJWTManager = manager) -> bool:
                    return await verdict(manager, going_on) == "valid"

                await until(knows)
                revoked = (by_itself, pair["access_token"], by_user)
                found = [(await verdict(manager, token)).rpartition(" ")[2] for token in revoked]
                assert found == ["jti", "family", "user"]
                with pytest.raises(RevokedToken):
                    await manager.refresh_token(pair["refresh_token"])
            for manager in parts.managers:
                await manager.stop()
