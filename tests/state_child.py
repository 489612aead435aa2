"""A process of its own with a state manager, which tests race and kill. Its task comes as JSON; it prints lines.

``write``: changes ``state_id`` without end and prints each version once the change has been acknowledged.
``race``: prints ``ready``, waits for a line, then lets ``tasks`` tasks suspend the state, and prints how many did.
``die``: makes one change, and kills itself in the gap ``gap``.
``relay``: moves on what states carry, and kills itself before the ``step``-th change of the database.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from base04_builtin.database.mongodb.access import MongoAccess
from base04_builtin.database.mongodb.core import MongoCore
from base04_builtin.database.mongodb.settings import MongoSettings
from base04_builtin.database.postgresql import PostgresDatabaseManager, PostgresSettings
from base04_builtin.database.sqlite import SqliteDatabaseManager, SqliteSettings
from base04_builtin.redis.server import ServerRedisManager, ServerRedisSettings
from base04_builtin.state.cache import StateCache
from base04_builtin.state.database import DatabaseStateManager, StateSettings
from base04_builtin.state.outbox import Router, deliveries_of
from base04_builtin.state.relay import Relay
from base04_hookspecs.database import DatabaseManager, Operation
from base04_hookspecs.errors import Conflict, ManagerUnavailable
from base04_hookspecs.redis import RedisManager
from base04_hookspecs.state import State


def die(*_: Any) -> None:
    """End as a crash does."""
    os.kill(os.getpid(), signal.SIGKILL)


def database_at(url: str) -> DatabaseManager:
    """Return a database manager for ``sqlite:path``, ``postgresql://...``, or ``mongodb://.../#database``."""
    kind, _, rest = url.partition(":")
    if kind == "sqlite":
        return SqliteDatabaseManager(SqliteSettings(path=Path(rest)))
    if kind == "postgresql":
        return PostgresDatabaseManager(PostgresSettings.model_validate({"url": url, "pool_size": 8}))
    address, _, name = url.partition("#")
    return DyingMongo(MongoSettings.model_validate({"url": address, "database": name, "lease": 2}))


class DyingMongo(MongoAccess):
    """A MongoDB that a process uses until its ``left``-th change, before which it dies; None for never."""

    def __init__(self, settings: MongoSettings) -> None:
        super().__init__(MongoCore(settings))
        self.left: int | None = None

    async def start(self) -> None:
        await self._core.start()

    async def stop(self) -> None:
        await self._core.stop()

    async def execute_transaction(self, operations: Sequence[Operation]) -> bool:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                die()
        return await super().execute_transaction(operations)


@asynccontextmanager
async def opened(task: dict[str, Any]) -> AsyncIterator[tuple[DatabaseManager, RedisManager | None]]:
    """Start the managers below."""
    async with AsyncExitStack() as stack:
        database = database_at(task["database"])
        await database.start()
        stack.push_async_callback(database.stop)
        redis = None
        if "redis" in task:
            redis = ServerRedisManager(ServerRedisSettings.model_validate({"url": task["redis"]}))
            await redis.start()
            stack.push_async_callback(redis.stop)
        yield database, redis


async def write(manager: DatabaseStateManager, task: dict[str, Any]) -> None:
    for number in range(1, 1_000_000):
        assert await manager.update_state(task["state_id"], {"n": number}) is True
        say(number)


async def race(manager: DatabaseStateManager, task: dict[str, Any]) -> None:
    await manager.get_state(task["state_id"])
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    changes = (manager.update_state(task["state_id"], {"by": os.getpid()}, "suspend") for _ in range(task["tasks"]))
    outcomes = await asyncio.gather(*changes, return_exceptions=True)
    unforeseen = [one for one in outcomes if one is not True and not isinstance(one, Conflict)]
    say(outcomes.count(True) if not unforeseen else repr(unforeseen))


class DyingCache(StateCache):
    """Dies where it is to put the state that has just been written."""

    async def keep(self, state_id: str, version: int, state: State | None) -> None:
        die()


async def run(task: dict[str, Any]) -> None:
    async with opened(task) as (database, redis):
        if task["do"] == "relay":
            await relay(database, task)
            return
        manager = DatabaseStateManager(StateSettings.model_validate(task.get("settings", {})), database, redis, None)
        await manager.start()
        if task["do"] == "die":
            assert redis is not None
            manager._parts.committer._cache = DyingCache(redis, 30, 5)
            await manager.update_state(task["state_id"], {"a": 2})
        await {"write": write, "race": race}[task["do"]](manager, task)
        await manager.stop()


async def relay(database: DatabaseManager, task: dict[str, Any]) -> None:
    assert isinstance(database, DyingMongo)
    moving = Relay(database, deliveries_of)
    subscriptions = Router(database, moving).subscriptions
    await subscriptions()
    database.left = task["step"]
    await moving.move_some(subscriptions)
    say("done")


def say(word: object) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        asyncio.run(run(json.loads(sys.argv[1])))
    except ManagerUnavailable as error:
        say(error)
