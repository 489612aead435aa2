"""The database providers against the driver below each, used directly, in the same run and taking turns.

On SQLite: transactions of two statements against the sqlite3 module, one caller at synchronous=NORMAL, and 16 callers
at FULL against the module's commits one after the other. A single caller pays for two threads that wake each other,
which costs much more on some machines than on others: so there is also the module on a thread of its own.

On PostgreSQL: one-row find and one-row transaction against SQLAlchemy Core over asyncpg, and against asyncpg alone with
the same text, prepared; 100 inserts in one transaction against executemany.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import sqlalchemy as sa
import uvloop
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from base04.testing.servers.postgres import PostgresServer
from base04_builtin.database.postgresql import PostgresDatabaseManager, PostgresSettings
from base04_builtin.database.postgresql.driver import connect
from base04_builtin.database.sqlite import SqliteDatabaseManager, SqliteSettings
from base04_hookspecs.database import Column, DatabaseManager, Operation, TableSchema

STATES = TableSchema(
    "states",
    (Column("id", "string", nullable=False), Column("version", "integer"), Column("data", "text")),
    primary_key=("id",),
)
HISTORY = TableSchema(
    "history",
    (Column("id", "string", nullable=False), Column("version", "integer", nullable=False), Column("data", "text")),
    primary_key=("id", "version"),
)
DATA = '{"name": "Ada", "active": true}'
CALLERS = 16
BATCH = 100
MODULE_TABLES = """
    CREATE TABLE states (id TEXT NOT NULL, version INTEGER, data TEXT, PRIMARY KEY (id));
    CREATE TABLE history (id TEXT NOT NULL, version INTEGER NOT NULL, data TEXT, PRIMARY KEY (id, version));
"""
Rate = Callable[[int], Awaitable[float]]
"""Does something so many times and returns how often that was in a second."""


def change(key: str, version: int) -> list[Operation]:
    """Return the two statements of a state: the row with a check of its version, and its history."""
    return [
        {
            "type": "update",
            "table": "states",
            "data": {"version": version + 1, "data": DATA},
            "where": {"id": key, "version": version},
            "expect": 1,
        },
        {"type": "insert", "table": "history", "data": {"id": key, "version": version, "data": DATA}},
    ]


async def rate(times: int, work: Callable[[], Awaitable[Any]]) -> float:
    """Return how often in a second the work was done."""
    began = time.perf_counter()
    for _ in range(times):
        await work()
    return times / (time.perf_counter() - began)


class SqliteModule:
    """The sqlite3 module by itself: no threads, no checks, the statements as text."""

    def __init__(self, path: Path, synchronous: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(f"PRAGMA synchronous = {synchronous}")
        self._connection.executescript(MODULE_TABLES)
        self._connection.execute("INSERT INTO states VALUES ('0', 0, '')")
        self._version = 0

    async def changes(self, times: int) -> float:
        began = time.perf_counter()
        for _ in range(times):
            self.change()
        return times / (time.perf_counter() - began)

    def change(self) -> None:
        execute, version = self._connection.execute, self._version
        execute("BEGIN IMMEDIATE")
        execute(
            "UPDATE states SET version = ?, data = ? WHERE id = ? AND version = ?", (version + 1, DATA, "0", version)
        )
        execute("INSERT INTO history (id, version, data) VALUES (?, ?, ?)", ("0", version, DATA))
        execute("COMMIT")
        self._version += 1

    def close(self) -> None:
        self._connection.close()


class ModuleInThread(SqliteModule):
    """The same on a thread of its own, with one bare hop there and back for each transaction."""

    def __init__(self, path: Path, synchronous: str) -> None:
        self._requests: SimpleQueue[asyncio.Future[None] | None] = SimpleQueue()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(path, synchronous), daemon=True)
        self._thread.start()
        self._ready.wait(60)

    def _run(self, path: Path, synchronous: str) -> None:
        super().__init__(path, synchronous)
        self._ready.set()
        while (future := self._requests.get()) is not None:
            self.change()
            future.get_loop().call_soon_threadsafe(future.set_result, None)
        super().close()

    async def changes(self, times: int) -> float:
        return await rate(times, self._hop)

    async def _hop(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests.put(future)
        await future

    def close(self) -> None:
        self._requests.put(None)
        self._thread.join()


class Changes:
    """The same through a manager, from some callers at the same time."""

    def __init__(self, manager: DatabaseManager, callers: int) -> None:
        self._manager = manager
        self._versions = dict.fromkeys(map(str, range(callers)), 0)

    async def prepare(self) -> None:
        for table in (STATES, HISTORY):
            await self._manager.ensure_table(table)
        rows = [{"id": key, "version": 0, "data": ""} for key in self._versions]
        await self._manager.execute_transaction([{"type": "insert", "table": "states", "data": row} for row in rows])

    async def changes(self, times: int) -> float:
        began = time.perf_counter()
        await asyncio.gather(*(self._calls(key, times // len(self._versions)) for key in self._versions))
        return times / (time.perf_counter() - began)

    async def _calls(self, key: str, times: int) -> None:
        first = self._versions[key]
        for version in range(first, first + times):
            await self._manager.execute_transaction(change(key, version))
        self._versions[key] += times


async def sqlite(folder: Path, rounds: int) -> None:
    for synchronous, callers, ours_times, module_times in (("NORMAL", 1, 2000, 4000), ("FULL", CALLERS, 4800, 800)):
        module = SqliteModule(folder / f"module-{synchronous}.sqlite3", synchronous)
        settings = SqliteSettings.model_validate(
            {"path": folder / f"ours-{synchronous}.sqlite3", "synchronous": synchronous}
        )
        manager = SqliteDatabaseManager(settings)
        await manager.start()
        ours = Changes(manager, callers)
        await ours.prepare()
        hopping = ModuleInThread(folder / f"thread-{synchronous}.sqlite3", synchronous)
        peers: dict[str, tuple[Rate, int]] = {"sqlite3": (module.changes, module_times)}
        if callers == 1:
            peers["sqlite3 in a thread"] = (hopping.changes, ours_times)
        title = f"SQLite {synchronous}, two statements, {callers} caller{'s' if callers > 1 else ''}"
        await compared(title, (ours.changes, ours_times), peers, rounds)
        await manager.stop()
        module.close()
        hopping.close()


class CorePeer:
    """SQLAlchemy Core over asyncpg, as its documentation shows it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._table = sa.Table(
            "states",
            sa.MetaData(),
            sa.Column("id", sa.Text),
            sa.Column("version", sa.BigInteger),
            sa.Column("data", sa.Text),
        )

    async def find(self) -> None:
        async with self._engine.connect() as connection:
            result = await connection.execute(sa.select(self._table).where(self._table.c.id == "0"))
            assert len([dict(row) for row in result.mappings()]) == 1

    async def change(self) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(sa.update(self._table).where(self._table.c.id == "0").values(data=DATA))

    async def inserts(self, rows: Sequence[dict[str, Any]]) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(sa.insert(self._table), list(rows))


class DriverPeer:
    """asyncpg alone, on one connection, with statements that it has prepared."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def find(self) -> None:
        rows = await self._connection.fetch("SELECT id, version, data FROM states WHERE id = $1", "0")
        assert len([dict(row) for row in rows]) == 1

    async def change(self) -> None:
        async with self._connection.transaction():
            await self._connection.execute("UPDATE states SET data = $1 WHERE id = $2", DATA, "0")

    async def inserts(self, rows: Sequence[dict[str, Any]]) -> None:
        values = [(row["id"], row["version"], row["data"]) for row in rows]
        async with self._connection.transaction():
            await self._connection.executemany("INSERT INTO states (id, version, data) VALUES ($1, $2, $3)", values)


class ManagerUser:
    """The provider, through the contract."""

    def __init__(self, manager: DatabaseManager) -> None:
        self._manager = manager

    async def find(self) -> None:
        assert len(await self._manager.find("states", {"id": "0"})) == 1

    async def change(self) -> None:
        await self._manager.execute_transaction(
            [{"type": "update", "table": "states", "data": {"data": DATA}, "where": {"id": "0"}, "expect": 1}]
        )

    async def inserts(self, rows: Sequence[dict[str, Any]]) -> None:
        await self._manager.execute_transaction([{"type": "insert", "table": "states", "data": row} for row in rows])


async def postgresql(rounds: int) -> None:
    with PostgresServer(fsync=True) as server:
        manager = PostgresDatabaseManager(PostgresSettings.model_validate({"url": server.url}))
        engine = create_async_engine(server.url.replace("postgresql://", "postgresql+asyncpg://"))
        await manager.start()
        connection: Any = await connect(server.url)
        try:
            await manager.ensure_table(STATES)
            row = {"id": "0", "version": 0, "data": DATA}
            await manager.execute_transaction([{"type": "insert", "table": "states", "data": row}])
            await on_postgresql(ManagerUser(manager), CorePeer(engine), DriverPeer(connection), rounds)
        finally:
            await connection.close()
            await engine.dispose()
            await manager.stop()


async def on_postgresql(ours: ManagerUser, core: CorePeer, driver: DriverPeer, rounds: int) -> None:
    numbers = itertools.count(1)

    def repeated(work: Callable[[], Awaitable[None]]) -> Rate:
        return lambda times: rate(times, work)

    def inserting(work: Callable[[Sequence[dict[str, Any]]], Awaitable[None]]) -> Rate:
        return lambda times: rate(
            times, lambda: work([{"id": str(next(numbers)), "version": 0, "data": DATA} for _ in range(BATCH)])
        )

    for title, times, wrapped, name in (
        ("PostgreSQL, one-row find", 500, repeated, "find"),
        ("PostgreSQL, one-row transaction", 300, repeated, "change"),
        (f"PostgreSQL, {BATCH} inserts in a transaction", 25, inserting, "inserts"),
    ):
        wrap: Callable[[Any], Rate] = wrapped
        peers = {
            "SQLAlchemy Core": (wrap(getattr(core, name)), times),
            "asyncpg": (wrap(getattr(driver, name)), times),
        }
        await compared(title, (wrap(getattr(ours, name)), times), peers, rounds)


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
    print(f"  {name:<28} {middle:10,.{digits}f}{unit:<3} [{low:,.{digits}f} .. {high:,.{digits}f}]")


async def run(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        await sqlite(Path(folder), rounds)
    await postgresql(rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    print(f"calls in a second, {rounds} rounds: median [minimum .. maximum]")
    uvloop.run(run(rounds))


if __name__ == "__main__":
    main()
