"""The state manager against the drivers below it, in the same run and taking turns.

``update_state`` with history and outbox, 16 callers on different states: on SQLite at synchronous=FULL against the
sqlite3 module doing the same two statements (the state with its version, and the history) one after the other; on
PostgreSQL against asyncpg with 16 connections: with the two statements in a transaction, with one statement that does
both, and with one that puts an event into an outbox as well, which nobody empties (ours is emptied, on a connection of its
own). ``get_state`` from the cache against
a bare redis-py GET. Peers read nothing, check nothing, and write the same JSON each time.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import redis.asyncio
import uvloop

from base04.testing.servers.postgres import PostgresServer
from base04.testing.servers.redis import RedisServer
from base04_builtin.database.postgresql import PostgresDatabaseManager, PostgresSettings
from base04_builtin.database.postgresql.driver import connect
from base04_builtin.database.sqlite import SqliteDatabaseManager, SqliteSettings
from base04_builtin.redis.server import ServerRedisManager, ServerRedisSettings
from base04_builtin.state.database import DatabaseStateManager, StateSettings
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.redis import RedisManager

CALLERS = 16
BEFORE = '{"name": "Ada", "active": true, "count": 1}'
AFTER = '{"name": "Ada", "active": true, "count": 2}'
STATE_TABLE = """
    CREATE TABLE states (id TEXT NOT NULL PRIMARY KEY, status TEXT, version BIGINT, data TEXT, updated_at FLOAT)
"""
HISTORY_TABLE = """
    CREATE TABLE history (id TEXT NOT NULL, version BIGINT NOT NULL, event_id TEXT NOT NULL, transition TEXT,
    before TEXT, after TEXT, at FLOAT, PRIMARY KEY (id, version))
"""
OUTBOX_TABLE = """
    CREATE TABLE outbox (event_id TEXT NOT NULL PRIMARY KEY, id TEXT NOT NULL, version BIGINT NOT NULL, type TEXT);
    CREATE INDEX outbox_versions ON outbox (version)
"""
Rate = Callable[[int], Awaitable[float]]
"""Does something so many times and returns how often that was in a second."""


@asynccontextmanager
async def states_on(
    database: DatabaseManager, cache: RedisManager | None = None
) -> AsyncIterator[DatabaseStateManager]:
    """A state manager with a state for each caller."""
    await database.start()
    manager = DatabaseStateManager(StateSettings(), database, cache, None)
    await manager.start()
    for caller in range(CALLERS):
        await manager.register_state(str(caller), "session", {"name": "Ada", "active": True, "count": 0})
    try:
        yield manager
    finally:
        await manager.stop()
        await database.stop()


def updates(manager: DatabaseStateManager) -> Rate:
    async def one(caller: int, times: int) -> None:
        for number in range(times):
            assert await manager.update_state(str(caller), {"count": number})

    return lambda times: by_callers(one, times)


async def by_callers(one: Callable[[int, int], Awaitable[None]], times: int) -> float:
    began = time.perf_counter()
    await asyncio.gather(*(one(caller, times // CALLERS) for caller in range(CALLERS)))
    return times / (time.perf_counter() - began)


class SqliteModule:
    """The sqlite3 module by itself, one caller, a commit for each change."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(STATE_TABLE)
        self._connection.execute(HISTORY_TABLE)
        self._connection.execute("INSERT INTO states VALUES ('0', 'active', 0, '', 0)")
        self._version = 0

    async def changes(self, times: int) -> float:
        execute = self._connection.execute
        began = time.perf_counter()
        for _ in range(times):
            now, version = time.time(), self._version
            execute("BEGIN IMMEDIATE")
            execute(
                "UPDATE states SET status = ?, version = ?, data = ?, updated_at = ? WHERE id = ? AND version = ?",
                ("active", version + 1, AFTER, now, "0", version),
            )
            execute(
                "INSERT INTO history VALUES (?, ?, ?, ?, ?, ?, ?)",
                ("0", version, uuid.uuid4().hex, "update", BEFORE, AFTER, now),
            )
            execute("COMMIT")
            self._version += 1
        return times / (time.perf_counter() - began)

    def close(self) -> None:
        self._connection.close()


UPDATE = "UPDATE states SET status = $1, version = $2, data = $3, updated_at = $4 WHERE id = $5 AND version = $6"
INSERT = "INSERT INTO history VALUES ($1, $2, $3, $4, $5, $6, $7)"
BOTH = f"""
    WITH changed AS ({UPDATE} RETURNING id, version)
    INSERT INTO history SELECT id, version, $7, $8, $9, $10, $11 FROM changed
"""


ALL = f"""
    WITH changed AS ({UPDATE} RETURNING id, version),
    kept AS (INSERT INTO history SELECT id, version, $7, $8, $9, $10, $11 FROM changed)
    INSERT INTO outbox SELECT $7, id, version, $12 FROM changed
"""


class Driver:
    """asyncpg by itself: a connection for each caller, statements that it has prepared."""

    def __init__(self, connections: list[Any]) -> None:
        self._connections = connections
        self._versions = dict.fromkeys(range(CALLERS), 0)

    async def two_statements(self, times: int) -> float:
        return await by_callers(self._two, times)

    async def one_statement(self, times: int) -> float:
        return await by_callers(self._one, times)

    async def three_rows(self, times: int) -> float:
        return await by_callers(self._all, times)

    async def _all(self, caller: int, times: int) -> None:
        connection, now = self._connections[caller], time.time()
        for _ in range(times):
            version = self._versions[caller] = self._versions[caller] + 1
            changed = ("active", version, AFTER, now, str(caller), version - 1)
            await connection.execute(ALL, *changed, uuid.uuid4().hex, "update", BEFORE, AFTER, now, "session")

    async def _two(self, caller: int, times: int) -> None:
        connection, now = self._connections[caller], time.time()
        for _ in range(times):
            version = self._versions[caller] = self._versions[caller] + 1
            async with connection.transaction():
                await connection.execute(UPDATE, "active", version, AFTER, now, str(caller), version - 1)
                await connection.execute(INSERT, str(caller), version, uuid.uuid4().hex, "update", BEFORE, AFTER, now)

    async def _one(self, caller: int, times: int) -> None:
        connection, now = self._connections[caller], time.time()
        for _ in range(times):
            version = self._versions[caller] = self._versions[caller] + 1
            changed = ("active", version, AFTER, now, str(caller), version - 1)
            await connection.execute(BOTH, *changed, uuid.uuid4().hex, "update", BEFORE, AFTER, now)


async def on_sqlite(folder: Path, rounds: int) -> None:
    database = SqliteDatabaseManager(
        SqliteSettings.model_validate({"path": folder / "ours.sqlite3", "synchronous": "FULL"})
    )
    module = SqliteModule(folder / "module.sqlite3")
    async with states_on(database) as manager:
        peers: dict[str, tuple[Rate, int]] = {"sqlite3": (module.changes, 800)}
        await compared("SQLite FULL, update_state, 16 callers", (updates(manager), 3200), peers, rounds)
    module.close()


async def on_postgresql(rounds: int) -> None:
    with PostgresServer(fsync=True) as server:
        settings = PostgresSettings.model_validate({"url": server.url, "pool_size": CALLERS + 1})
        connections: list[Any] = [await connect(server.url) for _ in range(CALLERS)]
        try:
            await connections[0].execute(STATE_TABLE)
            await connections[0].execute(HISTORY_TABLE)
            await connections[0].execute(OUTBOX_TABLE)
            for caller in range(CALLERS):
                await connections[0].execute("INSERT INTO states VALUES ($1, 'active', 0, '', 0)", str(caller))
            driver = Driver(connections)
            peers: dict[str, tuple[Rate, int]] = {
                "asyncpg, two statements": (driver.two_statements, 1600),
                "asyncpg, one statement": (driver.one_statement, 1600),
                "asyncpg, outbox too": (driver.three_rows, 1600),
            }
            async with states_on(PostgresDatabaseManager(settings)) as manager:
                await compared("PostgreSQL, update_state, 16 callers", (updates(manager), 1600), peers, rounds)
        finally:
            for connection in connections:
                await connection.close()


async def from_cache(folder: Path, rounds: int) -> None:
    with RedisServer(folder / "redis") as server:
        cache = ServerRedisManager(ServerRedisSettings.model_validate({"url": server.url}))
        await cache.start()
        bare = redis.asyncio.Redis.from_url(server.url)
        database = SqliteDatabaseManager(SqliteSettings(path=folder / "cached.sqlite3"))
        async with states_on(database, cache) as manager:
            [key] = await bare.keys("b04:state:0")
            for callers in (1, CALLERS):

                async def ours(times: int, callers: int = callers) -> float:
                    return await reads(lambda: manager.get_state("0"), times, callers)

                async def theirs(times: int, callers: int = callers) -> float:
                    return await reads(lambda: bare.get(key), times, callers)

                title = f"get_state from the cache, {callers} caller{'s' if callers > 1 else ''}"
                await compared(title, (ours, 3200), {"redis-py GET": (theirs, 3200)}, rounds)
        await bare.aclose()
        await cache.stop()


async def reads(read: Callable[[], Awaitable[Any]], times: int, callers: int) -> float:
    async def one() -> None:
        for _ in range(times // callers):
            assert await read() is not None

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(callers)))
    return times / (time.perf_counter() - began)


async def compared(title: str, ours: tuple[Rate, int], peers: dict[str, tuple[Rate, int]], rounds: int) -> None:
    """Let all of them take turns and print our ratio to each peer."""
    for measure, times in (ours, *peers.values()):
        await measure(max(CALLERS, times // 10))
    own: list[float] = []
    theirs: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(rounds):
        own.append(await ours[0](ours[1]))
        for name, (measure, times) in peers.items():
            theirs[name].append(await measure(times))
    print(title)
    shown("base04", own, "/s", 0)
    for name, values in theirs.items():
        shown(name, values, "/s", 0)
        shown(f"ratio to {name}", [mine / other for mine, other in zip(own, values, strict=True)], " x", 2)


def shown(name: str, values: list[float], unit: str, digits: int) -> None:
    low, middle, high = min(values), statistics.median(values), max(values)
    print(f"  {name:<34} {middle:10,.{digits}f}{unit:<3} [{low:,.{digits}f} .. {high:,.{digits}f}]")


async def run(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        await on_sqlite(Path(folder), rounds)
        await from_cache(Path(folder), rounds)
    await on_postgresql(rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    print(f"calls in a second, {rounds} rounds: median [minimum .. maximum]")
    uvloop.run(run(rounds))


if __name__ == "__main__":
    main()
