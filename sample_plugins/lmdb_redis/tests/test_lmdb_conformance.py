"""The role's own suite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from base04_lmdb_redis.plugin import redis_providers
from lmdb_kit import started

from base04.testing.conformance.redis import Another, RedisConformance
from base04_hookspecs.redis import RedisManager

(OFFERED,) = redis_providers()


@pytest.fixture(params=["fast", "durable"])
def another(tmp_path: Path, request: pytest.FixtureRequest) -> Another:
    return lambda: started(tmp_path / "store", durable=request.param == "durable")


@pytest.fixture
async def manager(another: Another) -> AsyncIterator[RedisManager]:
    async with another() as manager:
        yield manager


class TestConformance(RedisConformance):
    capabilities = OFFERED.capabilities
