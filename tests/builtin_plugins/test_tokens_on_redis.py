"""Tokens and API keys with each kind of Redis server between the processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from base04.testing.certificates import ThrowawayCA
from base04.testing.conformance.api_key import ApiKeyConformance
from base04.testing.conformance.jwt import JWTConformance
from base04.testing.servers.redis import RedisServer
from base04.testing.servers.redis_groups import RedisCluster
from base04_builtin.api_key import api_key_providers
from base04_builtin.api_key.database import ApiKeySettings, DatabaseApiKeyManager
from base04_builtin.jwt import jwt_providers
from base04_builtin.jwt.signed import SignedJWTManager
from base04_hookspecs.errors import RevokedToken
from jwt_kit import Parts, parts, until, verdict
from redis_kit import started

__all__ = ["parts"]

Kind = dict[str, Any]


@pytest.fixture(scope="module", params=["plain", "tls", "cluster"])
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kind]:
    folder = tmp_path_factory.mktemp("redis")
    with ExitStack() as stack:
        if request.param == "plain":
            yield {"url": stack.enter_context(RedisServer(folder)).url}
        elif request.param == "tls":
            ca = ThrowawayCA(folder / "ca")
            yield {"url": stack.enter_context(RedisServer(folder / "server", ca=ca)).url, "tls": {"ca": ca.ca}}
        else:
            yield {"url": stack.enter_context(RedisCluster(folder)).url}


@pytest.fixture
async def tokens(parts: Parts, kind: Kind) -> AsyncIterator[SignedJWTManager]:
    async with started(**kind) as redis:
        manager = await parts.start(redis)
        yield manager
        await manager.stop()


@pytest.fixture
async def keys(parts: Parts, tokens: SignedJWTManager) -> AsyncIterator[DatabaseApiKeyManager]:
    manager = DatabaseApiKeyManager(ApiKeySettings(), parts.database, parts.vault, tokens)
    await manager.start()
    yield manager
    await manager.stop()


class TestTokens(JWTConformance):
    capabilities = next(iter(jwt_providers())).capabilities - {"jwks"}

    @pytest.fixture
    def manager(self, tokens: SignedJWTManager) -> SignedJWTManager:
        return tokens


class TestApiKeys(ApiKeyConformance):
    capabilities = next(iter(api_key_providers())).capabilities

    @pytest.fixture
    def manager(self, keys: DatabaseApiKeyManager) -> DatabaseApiKeyManager:
        return keys


async def test_revocation_is_announced_to_the_other_process(
    parts: Parts, kind: Kind, tokens: SignedJWTManager, keys: DatabaseApiKeyManager
) -> None:
    async with started(**kind) as redis:
        there = await parts.start(redis, revocation_max_age=60)  # it would look in the database in 10 s at the soonest
        key = await keys.generate_api_key("123")
        first = await tokens.create_refresh_token("123", source=f"api_key:{key[4:16]}")
        access = (await tokens.refresh_token(first))["access_token"]
        assert await verdict(there, access) == "valid"
        await keys.revoke_api_key(key)

        async def is_refused() -> bool:
            return await verdict(there, access) != "valid"

        await until(is_refused)
        with pytest.raises(RevokedToken):
            await there.validate_token(access)
        await there.stop()
