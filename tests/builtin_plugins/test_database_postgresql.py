"""The provider ``postgresql`` on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from base04.testing.conformance.database import SqlConformance
from base04_builtin.database import database_providers
from base04_builtin.database.postgresql import PostgresDatabaseManager
from postgres_kit import postgres, postgres_settings, postgres_url

PROVIDER = {provider.name: provider for provider in database_providers()}["postgresql"]
__all__ = ["postgres", "postgres_url"]


@pytest.fixture
async def manager(postgres_url: str) -> AsyncIterator[PostgresDatabaseManager]:
    database = PostgresDatabaseManager(postgres_settings(postgres_url))
    await database.start()
    yield database
    await database.stop()


class TestPostgresql(SqlConformance):
    capabilities = PROVIDER.capabilities
