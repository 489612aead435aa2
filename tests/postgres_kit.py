"""PostgreSQL for tests: one server for all tests of a process, one empty database for each test.

Import the fixtures that a module uses; ``postgres_url`` brings ``postgres`` with it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from base04.testing.servers.postgres import PostgresServer
from base04_builtin.database.postgresql import PostgresDatabaseManager, PostgresSettings

__all__ = ["empty_database", "postgres", "postgres_settings", "postgres_url", "started"]

ICU = "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"
"""An order of text other than that of code points, where the server has it."""


_users: list[PostgresServer] = []


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running server, for everything that does not harm it.

    pytest takes the fixture for another one in each module that imports it, so they share the server by themselves.
    """
    if _users:
        server = _users[0]
    else:
        server = PostgresServer()
        server.start()
    _users.append(server)
    try:
        yield server
    finally:
        _users.pop()
        if not _users:
            server.stop()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The URL of an empty database that sorts text as people do."""
    with empty_database(postgres) as url:
        yield url


@contextmanager
def empty_database(server: PostgresServer) -> Iterator[str]:
    """Make a database and return its URL; it is dropped afterwards."""
    try:
        name = server.create_database(ICU)
    except RuntimeError:  # built without ICU
        name = server.create_database()
    try:
        yield server.url_of(name)
    finally:
        server.drop_database(name)


def postgres_settings(url: str, **changes: Any) -> PostgresSettings:
    """Return settings for tests: a small pool, and whatever else the test says."""
    return PostgresSettings.model_validate({"url": url, "pool_size": 4} | changes)


@asynccontextmanager
async def started(url: str, **changes: Any) -> AsyncIterator[PostgresDatabaseManager]:
    """A manager that has been started, with settings of its own."""
    manager = PostgresDatabaseManager(postgres_settings(url, **changes))
    try:
        await manager.start()
        yield manager
    finally:
        await manager.stop()
