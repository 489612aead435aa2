"""MongoDB for tests: the one that BASE04_TEST_MONGODB_URL names, a mongod on PATH, or FerretDB; an empty database each.

Import the fixtures that a module uses; ``mongo_url`` brings ``mongo`` with it.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from base04.testing.servers.ferretdb import FerretDBServer, MongodServer, real_mongodb_url
from base04_builtin.database.mongodb import MongoDatabaseManager
from base04_builtin.database.mongodb.settings import MongoSettings

__all__ = ["manager_of", "mongo", "mongo_database", "mongo_settings"]


@pytest.fixture(scope="session")
def mongo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running server, for everything that does not harm it."""
    real = real_mongodb_url()
    if real is not None:
        yield real
        return
    folder: Path = tmp_path_factory.mktemp("mongo")
    with MongodServer(folder) if shutil.which("mongod") else FerretDBServer(folder) as server:
        yield server.url


@pytest.fixture
def mongo_database(mongo: str) -> Iterator[tuple[str, str]]:
    """The address of a server, and the name of a database there that is dropped afterwards."""
    name = f"base04_test_{uuid.uuid4().hex[:16]}"
    yield mongo, name
    with MongoClient[dict[str, Any]](mongo) as client:
        client.drop_database(name)


def mongo_settings(url: str, database: str, **changes: Any) -> MongoSettings:
    """Return settings for tests: several documents may change one after the other, unless the test says otherwise."""
    given = {"url": url, "database": database, "pool_size": 8, "single_document_atomicity": True}
    return MongoSettings.model_validate(given | changes)


@asynccontextmanager
async def manager_of(settings: MongoSettings) -> AsyncIterator[MongoDatabaseManager]:
    """Return a started manager, and stop it."""
    manager = MongoDatabaseManager(settings)
    try:
        await manager.start()
        yield manager
    finally:
        await manager.stop()
