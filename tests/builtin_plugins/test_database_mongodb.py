"""The provider ``mongodb`` on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from base04.testing.conformance.database import DatabaseConformance
from base04_builtin.database import database_providers
from base04_builtin.database.mongodb import MongoDatabaseManager
from mongo_kit import manager_of, mongo, mongo_database, mongo_settings

PROVIDER = {provider.name: provider for provider in database_providers()}["mongodb"]
__all__ = ["mongo", "mongo_database"]


@pytest.fixture
async def manager(mongo_database: tuple[str, str]) -> AsyncIterator[MongoDatabaseManager]:
    async with manager_of(mongo_settings(*mongo_database)) as database:
        yield database


class TestMongodb(DatabaseConformance):
    capabilities = PROVIDER.capabilities
