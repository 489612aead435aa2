"""The provider ``server`` of the role ``redis``, and the rate limiter on it, against real servers of each kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from base04.testing.certificates import ThrowawayCA
from base04.testing.conformance.rate_limiter import Another
from base04.testing.conformance.redis import Another as AnotherRedis
from base04.testing.conformance.redis import RedisConformance
from base04.testing.servers.redis import RedisServer
from base04.testing.servers.redis_groups import RedisCluster, SentinelGroup
from base04_builtin.redis import redis_providers
from base04_builtin.redis.server import ServerRedisManager
from base04_hookspecs.redis import RedisManager
from rate_limiter_kit import SUITE, GcraConformance, process, sqlite_in
from redis_kit import manager_for, started

Kind = dict[str, Any]

PROVIDER = next(one for one in redis_providers() if one.name == "server")


@pytest.fixture(scope="module", params=["plain", "password", "tls", "cluster", "sentinel"])
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kind]:
    folder = tmp_path_factory.mktemp("redis")
    with ExitStack() as stack:
        if request.param == "plain":
            yield {"url": stack.enter_context(RedisServer(folder)).url}
        elif request.param == "password":
            server = stack.enter_context(RedisServer(folder, password="pa ss/word"))
            yield {"url": server.url.removesuffix("0") + "3", "password": "pa ss/word"}
        elif request.param == "tls":
            ca = ThrowawayCA(folder / "ca")
            server = stack.enter_context(RedisServer(folder / "server", ca=ca, client_certificates=True))
            own = ca.issue("client")
            yield {"url": server.url, "tls": {"ca": ca.ca, "certificate": own.certificate, "key": own.key}}
        elif request.param == "cluster":
            yield {"url": stack.enter_context(RedisCluster(folder)).url}
        else:
            yield {"url": stack.enter_context(SentinelGroup(folder)).url}


@pytest.fixture
async def server(settings: Kind) -> AsyncIterator[ServerRedisManager]:
    async with started(**settings) as manager:
        yield manager


class TestServerRedis(RedisConformance):
    capabilities = PROVIDER.capabilities

    @pytest.fixture
    def manager(self, server: ServerRedisManager) -> RedisManager:
        return server

    @pytest.fixture
    def another(self, settings: Kind) -> AnotherRedis:
        return lambda: started(**settings)


class TestGcraRateLimiterOnServer(GcraConformance):
    """On servers it is shared too: what the role ``redis`` shares, so does it."""

    capabilities = GcraConformance.capabilities | {"shared"}

    @pytest.fixture
    def another(self, settings: Kind, tmp_path: Path) -> Another:
        return lambda: process(manager_for(**settings), sqlite_in(tmp_path), **SUITE)


async def test_values_are_shared_and_outlive_a_manager(settings: Kind) -> None:
    assert {"persistent", "shared"} <= PROVIDER.capabilities
    async with started(**settings) as one:
        await one.set("outlives", {"a": 1})
        async with started(**settings) as other:
            assert await other.get("outlives") == {"a": 1}
    async with started(**settings) as later:
        assert await later.get("outlives") == {"a": 1}
        await later.delete("outlives")
