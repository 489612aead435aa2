"""Managers that keep their truth in the role ``database``, on MongoDB, in a host as settings make it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from base04.app_manager import AppManager
from base04.testing.conformance.api_key import ApiKeyConformance
from base04.testing.conformance.jwt import JWTConformance
from base04.testing.conformance.rate_limiter import Another
from base04.testing.conformance.state import StateConformance
from base04_builtin.api_key import api_key_providers
from base04_builtin.database.mongodb import MongoDatabaseManager
from base04_builtin.jwt import jwt_providers
from base04_builtin.redis.memory import MemoryRedisManager, MemoryRedisSettings
from base04_builtin.state import state_providers
from base04_hookspecs.api_key import ApiKeyManager
from base04_hookspecs.jwt import JWTManager
from base04_hookspecs.state import StateManager
from mongo_kit import mongo, mongo_database, mongo_settings
from rate_limiter_kit import SUITE, GcraConformance, process

Place = tuple[str, str]
__all__ = ["mongo", "mongo_database"]


@asynccontextmanager
async def host(place: Place, data_dir: Path, role: str, **mongodb: Any) -> AsyncIterator[AppManager]:
    """Start a role and what it needs, with the database on MongoDB."""
    url, name = place
    settings = {
        "data_dir": str(data_dir / "data"),
        "managers": {"database": {"provider": "mongodb", "mongodb": {"url": url, "database": name, **mongodb}}},
    }
    async with AppManager(settings, safe_mode=True, only=[role]) as app:
        yield app


class TestRateLimiterOnMongodb(GcraConformance):
    @pytest.fixture
    def another(self, mongo_database: Place) -> Another:
        return lambda: process(
            MemoryRedisManager(MemoryRedisSettings()), MongoDatabaseManager(mongo_settings(*mongo_database)), **SUITE
        )


class TestApiKeys(ApiKeyConformance):
    capabilities: ClassVar[frozenset[str]] = next(iter(api_key_providers())).capabilities

    @pytest.fixture
    async def manager(self, mongo_database: Place, tmp_path: Path) -> AsyncIterator[ApiKeyManager]:
        async with host(mongo_database, tmp_path, "api_key", single_document_atomicity=True) as app:
            yield cast("ApiKeyManager", app.get_manager("api_key"))


class TestTokens(JWTConformance):
    capabilities: ClassVar[frozenset[str]] = next(iter(jwt_providers())).capabilities - {"jwks"}

    @pytest.fixture
    async def manager(self, mongo_database: Place, tmp_path: Path) -> AsyncIterator[JWTManager]:
        async with host(mongo_database, tmp_path, "jwt", single_document_atomicity=True) as app:
            tokens = cast("JWTManager", app.get_manager("jwt"))
            async with asyncio.timeout(30):  # its first news of revocations come a moment after its start
                while (await tokens.health_check())["status"] != "healthy":
                    await asyncio.sleep(0.01)
            yield tokens


class TestStates(StateConformance):
    capabilities: ClassVar[frozenset[str]] = next(iter(state_providers())).capabilities

    @pytest.fixture
    async def manager(self, mongo_database: Place, tmp_path: Path) -> AsyncIterator[StateManager]:
        async with host(mongo_database, tmp_path, "state") as app:
            yield cast("StateManager", app.get_manager("state"))


async def test_address_may_come_from_the_vault(mongo_database: Place, tmp_path: Path) -> None:
    url, name = mongo_database
    reference = ("${secret:reports/mongo#url}", name)
    async with AppManager({"data_dir": str(tmp_path / "data")}, safe_mode=True, only=["vault"]) as app:
        await app.vault_manager.set_secret_value("reports/mongo", "url", url)
    async with host(reference, tmp_path, "database") as app:
        assert await app.check_database_connection() is True
