"""Managers that keep their truth in the database, on PostgreSQL, started by the host from settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import ClassVar, cast

import pytest

from base04.app_manager import AppManager
from base04.testing.conformance.api_key import ApiKeyConformance
from base04.testing.conformance.jwt import JWTConformance
from base04.testing.conformance.rate_limiter import Another
from base04.testing.conformance.state import StateConformance
from base04_builtin.api_key import api_key_providers
from base04_builtin.api_key.database import ApiKeySettings, DatabaseApiKeyManager
from base04_builtin.database.postgresql import PostgresDatabaseManager
from base04_builtin.jwt import jwt_providers
from base04_builtin.redis.memory import MemoryRedisManager, MemoryRedisSettings
from base04_builtin.state import state_providers
from base04_builtin.vault.file import FileVaultManager, FileVaultSettings
from base04_hookspecs.api_key import ApiKeyManager
from base04_hookspecs.jwt import JWTManager
from base04_hookspecs.state import StateManager
from postgres_kit import postgres, postgres_settings, postgres_url, started
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


async def test_uses_of_keys_that_several_processes_count_add_up(postgres_url: str, tmp_path: Path) -> None:
    vault = FileVaultManager(FileVaultSettings(path=tmp_path / "secrets.json"))
    await vault.start()
    async with AsyncExitStack() as stack:
        processes = []
        for _ in range(3):
            database = await stack.enter_async_context(started(postgres_url))
            process = DatabaseApiKeyManager(ApiKeySettings(usage_interval=0.001), database, vault, None)
            await process.start()
            stack.push_async_callback(process.stop)
            processes.append(process)
        made = [await processes[0].generate_api_key("123") for _ in range(4)]

        async def use(process: DatabaseApiKeyManager, keys: list[str]) -> None:
            for _ in range(10):
                for key in keys:
                    await process.validate_api_key(key)
                await process.list_api_keys()  # lets those who store have their turn

        await asyncio.gather(use(processes[0], made), use(processes[1], made[::-1]), use(processes[2], made))
        for process in processes:
            await process.stop()
        assert [info["use_count"] for info in await processes[0].list_api_keys()] == [30] * 4
        for process in processes:
            assert (await process.health_check())["metrics"]["usage_dropped"] == 0
    await vault.stop()


class TestApiKeysOnPostgresql(ApiKeyConformance):
    capabilities: ClassVar[frozenset[str]] = next(iter(api_key_providers())).capabilities

    @pytest.fixture
    async def manager(self, postgres_url: str, tmp_path: Path) -> AsyncIterator[ApiKeyManager]:
        async with host(postgres_url, tmp_path, "api_key") as app:
            yield cast("ApiKeyManager", app.get_manager("api_key"))
