"""Managers that keep their truth in the database, on PostgreSQL, started by the host from settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar, cast

import pytest

from base04.app_manager import AppManager
from base04.testing.conformance.api_key import ApiKeyConformance
from base04.testing.conformance.jwt import JWTConformance
from base04.testing.conformance.rate_limiter import Another
from base04.testing.conformance.state import StateConformance
from base04_builtin.api_key import api_key_providers
from base04_builtin.database.postgresql import PostgresDatabaseManager
from base04_builtin.jwt import jwt_providers
from base04_builtin.redis.memory import MemoryRedisManager, MemoryRedisSettings
from base04_builtin.state import state_providers
from base04_hookspecs.api_key import ApiKeyManager
from base04_hookspecs.jwt import JWTManager
from base04_hookspecs.state import StateManager
from postgres_kit import postgres, postgres_settings, postgres_url
from rate_limiter_kit import SUITE, GcraConformance, process

__all__ = ["postgres", "postgres_url"]


@asynccontextmanager
async def host(url: str, folder: Path, role: str) -> AsyncIterator[AppManager]:
    """Start a role and what it needs, with the database on PostgreSQL."""
    settings = {
        "data_dir": str(folder / "data"),
        "managers": {"database": {"provider": "postgresql", "postgresql": {"url": url, "pool_size": 5}}},
    }
    async with AppManager(settings, safe_mode=True, only=[role]) as app:
        yield app


class TestStatesOnPostgresql(StateConformance):
    capabilities: ClassVar[frozenset[str]] = next(iter(state_providers())).capabilities

    @pytest.fixture
    async def manager(self, postgres_url: str, tmp_path: Path) -> AsyncIterator[StateManager]:
        async with host(postgres_url, tmp_path, "state") as app:
            yield cast("StateManager", app.get_manager("state"))


class TestTokensOnPostgresql(JWTConformance):
    capabilities: ClassVar[frozenset[str]] = next(iter(jwt_providers())).capabilities - {"jwks"}

    @pytest.fixture
    async def manager(self, postgres_url: str, tmp_path: Path) -> AsyncIterator[JWTManager]:
        async with host(postgres_url, tmp_path, "jwt") as app:
            yield cast("JWTManager", app.get_manager("jwt"))


class TestRateLimiterOnPostgresql(GcraConformance):
    @pytest.fixture
    def another(self, postgres_url: str) -> Another:
        return lambda: process(
            MemoryRedisManager(MemoryRedisSettings()),
            PostgresDatabaseManager(postgres_settings(postgres_url)),
            **SUITE,
        )


class TestApiKeysOnPostgresql(ApiKeyConformance):
    capabilities: ClassVar[frozenset[str]] = next(iter(api_key_providers())).capabilities

    @pytest.fixture
    async def manager(self, postgres_url: str, tmp_path: Path) -> AsyncIterator[ApiKeyManager]:
        async with host(postgres_url, tmp_path, "api_key") as app:
            yield cast("ApiKeyManager", app.get_manager("api_key"))
