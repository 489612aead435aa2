"""The role's own suite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from base04_lmdb_redis.manager import LmdbRedisManager
from base04_lmdb_redis.plugin import redis_providers
from base04_lmdb_redis.settings import LmdbRedisSettings

from base04.testing.conformance.redis import RedisConformance

(OFFERED,) = redis_providers()


@pytest.fixture(params=["fast", "durable"])
async def manager(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[LmdbRedisManager]:
    settings = LmdbRedisSettings(path=tmp_path / "store", durable=request.param == "durable", timeout=60.0)
    manager = LmdbRedisManager(settings)
    await manager.start()
    yield manager
    await manager.stop()


class TestConformance(RedisConformance):
    capabilities = OFFERED.capabilities
