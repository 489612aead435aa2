"""Transactions that wait at the same moment share one commit, and yet do not notice each other."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from base04.testing.conformance.database import PEOPLE, insert
from base04_builtin.database.sqlite import SqliteDatabaseManager, SqliteSettings
from base04_hookspecs.database import Operation
from base04_hookspecs.errors import Conflict, InvalidInput, ManagerUnavailable, NotSupported

WAL_HEADER, FRAME_HEADER = 32, 24


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "base04.sqlite3"


@pytest.fixture
async def manager(path: Path) -> AsyncIterator[SqliteDatabaseManager]:
    database = SqliteDatabaseManager(SqliteSettings(path=path, busy_timeout=60, statement_timeout=2))
    await database.start()
    await database.ensure_table(PEOPLE)
    yield database
    await database.stop()


@contextmanager
def blocked(path: Path) -> Iterator[None]:
    """Keep the write lock, so that everything that is submitted waits at the same moment."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


async def at_once(manager: SqliteDatabaseManager, path: Path, *transactions: list[Operation]) -> list[Any]:
    """Run transactions that wait at the same moment, after one that came before them, and return what came of each."""
    with blocked(path):
        first = asyncio.create_task(manager.execute_transaction([insert(id="first")]))
        async with asyncio.timeout(30):
            while (await manager.get_connection_pool_status())["in_use"] == 0:
                await asyncio.sleep(0)
        tasks = [asyncio.create_task(manager.execute_transaction(each)) for each in transactions]
        async with asyncio.timeout(30):
            while (await manager.get_connection_pool_status())["waiting"] < len(tasks):
                await asyncio.sleep(0)
    assert await first is True
    return await asyncio.gather(*tasks, return_exceptions=True)


def commits(path: Path) -> int:
    """Return how many commits the write-ahead log holds: frames that say how large the database is after them."""
    log = path.with_name(f"{path.name}-wal").read_bytes()
    page = int.from_bytes(log[8:12], "big")
    salt = log[16:24]
    starts = range(WAL_HEADER, len(log) - FRAME_HEADER - page + 1, FRAME_HEADER + page)
    return sum(1 for at in starts if log[at + 8 : at + 16] == salt and log[at + 4 : at + 8] != bytes(4))


async def stored(manager: SqliteDatabaseManager) -> set[str]:
    return {row["id"] for row in await manager.find(PEOPLE.name)} - {"first"}


async def test_they_share_one_commit(manager: SqliteDatabaseManager, path: Path) -> None:
    before = commits(path)
    outcomes = await at_once(manager, path, *([insert(id=f"{n}-a"), insert(id=f"{n}-b")] for n in range(50)))
    assert outcomes == [True] * 50
    assert len(await stored(manager)) == 100
    assert commits(path) - before == 2  # the first, and all the others


async def test_one_that_fails_leaves_its_neighbours_alone(manager: SqliteDatabaseManager, path: Path) -> None:
    unmet: Operation = {"type": "delete", "table": PEOPLE.name, "where": {"id": "nobody"}, "expect": 1}
    before = commits(path)
    outcomes = await at_once(
        manager,
        path,
        [insert(id="a")],
        [insert(id="b"), unmet],
        [insert(id="c"), insert(id="first")],
        [insert(id="d")],
        [insert(id="a")],
    )
    assert [outcome if outcome is True else type(outcome) for outcome in outcomes] == [
        True,
        Conflict,
        Conflict,
        True,
        Conflict,
    ]
    assert await stored(manager) == {"a", "d"}
    assert commits(path) - before == 2


async def test_one_that_rolls_everything_back(manager: SqliteDatabaseManager, path: Path) -> None:
    await manager.execute_query("CREATE TABLE harsh (id TEXT PRIMARY KEY ON CONFLICT ROLLBACK)")
    await manager.execute_query("INSERT INTO harsh VALUES ('taken')")
    taken: Operation = {"type": "insert", "table": "harsh", "data": {"id": "taken"}}
    outcomes = await at_once(manager, path, [insert(id="a")], [insert(id="b"), taken, insert(id="c")], [insert(id="d")])
    assert outcomes[::2] == [True, True]
    assert isinstance(outcomes[1], Conflict)
    assert await stored(manager) == {"a", "d"}


async def test_trigger_that_rolls_everything_back(manager: SqliteDatabaseManager, path: Path) -> None:
    await manager.execute_query("CREATE TABLE guarded (id TEXT)")
    await manager.execute_query(
        "CREATE TRIGGER guard BEFORE INSERT ON guarded WHEN new.id = 'bad' BEGIN SELECT RAISE(ROLLBACK, 'no'); END"
    )
    bad: Operation = {"type": "insert", "table": "guarded", "data": {"id": "bad"}}
    good: Operation = {"type": "insert", "table": "guarded", "data": {"id": "good"}}
    outcomes = await at_once(manager, path, [insert(id="a")], [insert(id="b"), bad], [good])
    assert outcomes[::2] == [True, True]
    assert isinstance(outcomes[1], Conflict)
    assert await stored(manager) == {"a"}
    assert await manager.count("guarded") == 1


async def test_deferred_foreign_key_fails_for_its_own_transaction_alone(
    manager: SqliteDatabaseManager, path: Path
) -> None:
    await manager.execute_query("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
    await manager.execute_query("CREATE TABLE children (parent REFERENCES parents DEFERRABLE INITIALLY DEFERRED)")
    orphan: Operation = {"type": "insert", "table": "children", "data": {"parent": 1}}
    adopted: Operation = {"type": "insert", "table": "children", "data": {"parent": 2}}
    parent: Operation = {"type": "insert", "table": "parents", "data": {"id": 2}}
    outcomes = await at_once(manager, path, [insert(id="a")], [insert(id="b"), orphan], [adopted, parent])
    assert outcomes[::2] == [True, True]
    assert isinstance(outcomes[1], Conflict)
    assert await stored(manager) == {"a"}
    assert await manager.find("children") == [{"parent": 2}]


async def test_slow_one_is_interrupted_and_its_neighbours_are_done(manager: SqliteDatabaseManager, path: Path) -> None:
    await manager.execute_query("CREATE TABLE slow (id INTEGER)")
    await manager.execute_query(
        "CREATE TRIGGER endless AFTER INSERT ON slow BEGIN SELECT (WITH RECURSIVE n(i) AS "
        "(SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n); END"
    )
    endless: Operation = {"type": "insert", "table": "slow", "data": {"id": 1}}
    outcomes = await at_once(manager, path, [insert(id="a")], [insert(id="b"), endless], [insert(id="c")])
    assert outcomes[::2] == [True, True]
    assert isinstance(outcomes[1], ManagerUnavailable)
    assert await stored(manager) == {"a", "c"}


async def test_statements_of_callers_come_in_their_turn(manager: SqliteDatabaseManager, path: Path) -> None:
    with blocked(path):
        calls: list[Any] = []
        for n in range(20):
            calls.append(asyncio.create_task(manager.execute_transaction([insert(id=f"a{n}", age=n)])))
            update = f"UPDATE {PEOPLE.name} SET age = age + 100"
            calls.append(asyncio.create_task(manager.execute_query(update)))
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*calls)
    assert outcomes[::2] == [True] * 20
    assert await manager.count(PEOPLE.name) == 20
    with pytest.raises(InvalidInput):
        await manager.execute_query("SAVEPOINT entry")


async def test_nobody_is_answered_before_the_commit(manager: SqliteDatabaseManager, path: Path) -> None:
    seen: list[bool] = []

    async def write(name: str) -> None:
        await manager.execute_transaction([insert(id=name)])
        other = sqlite3.connect(path)  # sees what is committed, whatever the manager thinks
        seen.append(bool(other.execute(f"SELECT 1 FROM {PEOPLE.name} WHERE id = ?", (name,)).fetchone()))
        other.close()

    await asyncio.gather(*(write(str(n)) for n in range(100)))
    assert seen == [True] * 100


async def test_those_that_are_cancelled_while_they_wait_are_not_begun(
    manager: SqliteDatabaseManager, path: Path
) -> None:
    with blocked(path):
        first = asyncio.create_task(manager.execute_transaction([insert(id="first")]))
        async with asyncio.timeout(30):
            while (await manager.get_connection_pool_status())["in_use"] == 0:
                await asyncio.sleep(0)
        tasks = [asyncio.create_task(manager.execute_transaction([insert(id=str(n))])) for n in range(10)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.sleep(0)
    await first
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcomes[1::2] == [True] * 5
    assert await stored(manager) == {"1", "3", "5", "7", "9"}
    assert (await manager.get_connection_pool_status())["waiting"] == 0


async def test_those_that_wait_too_long_are_told_so(path: Path) -> None:
    manager = SqliteDatabaseManager(SqliteSettings(path=path, busy_timeout=60, pool_timeout=0.05))
    await manager.start()
    await manager.ensure_table(PEOPLE)
    with blocked(path):
        first = asyncio.create_task(manager.execute_transaction([insert(id="first")]))
        async with asyncio.timeout(30):
            while (await manager.get_connection_pool_status())["in_use"] == 0:
                await asyncio.sleep(0)
        outcomes = await asyncio.gather(
            *(manager.execute_transaction([insert(id=str(n))]) for n in range(5)), return_exceptions=True
        )
    assert all(isinstance(outcome, ManagerUnavailable) for outcome in outcomes)
    assert await first is True
    assert await stored(manager) == set()
    assert await manager.execute_transaction([insert(id="later")])
    await manager.stop()


async def test_locked_file_fails_all_that_wait(path: Path) -> None:
    manager = SqliteDatabaseManager(SqliteSettings(path=path, busy_timeout=0.05))
    await manager.start()
    await manager.ensure_table(PEOPLE)
    with blocked(path):
        outcomes = await asyncio.gather(
            *(manager.execute_transaction([insert(id=str(n))]) for n in range(30)), return_exceptions=True
        )
    assert all(isinstance(outcome, ManagerUnavailable) for outcome in outcomes)
    assert await manager.execute_transaction([insert(id="later")])
    assert await stored(manager) == {"later"}
    with pytest.raises(NotSupported):
        await manager.with_access("read_only").execute_transaction([insert(id="x")])
    await manager.stop()


def run_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


def test_full_disk_fails_what_does_not_fit_and_nothing_else(path: Path) -> None:
    code = """
        import asyncio, resource, signal, sqlite3, sys
        from pathlib import Path
        from base04_builtin.database.sqlite import SqliteDatabaseManager, SqliteSettings

        async def main():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            manager = SqliteDatabaseManager(SqliteSettings(path=Path(sys.argv[1]), busy_timeout=60))
            await manager.start()
            await manager.execute_query("CREATE TABLE t (n INTEGER PRIMARY KEY, a BLOB)")

            def add(n, size):
                rows = [{"type": "insert", "table": "t", "data": {"n": n, "a": bytes(size)}}]
                return asyncio.create_task(manager.execute_transaction(rows))

            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
            other = sqlite3.connect(sys.argv[1], isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            tasks = [add(n, 3_000_000 if n == 5 else 10) for n in range(10)]
            await asyncio.sleep(0)
            other.execute("ROLLBACK")
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            print([type(outcome).__name__ for outcome in outcomes].count("ManagerUnavailable"))
            print([row["n"] for row in await manager.find("t", order_by=["n"], columns=["n"])])
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            print(await add(5, 3_000_000), await manager.execute_query("PRAGMA integrity_check"))
            await manager.stop()

        asyncio.run(main())
    """
    output, _ = run_python(code, path).communicate(timeout=120)
    assert output.splitlines() == ["1", "[0, 1, 2, 3, 4, 6, 7, 8, 9]", "True [{'integrity_check': 'ok'}]"]


async def test_acknowledged_writes_of_many_callers_survive_a_kill(path: Path) -> None:
    code = """
        import asyncio, sys
        from pathlib import Path
        from base04_builtin.database.sqlite import SqliteDatabaseManager, SqliteSettings
        from base04_hookspecs.database import Column, TableSchema

        async def main():
            manager = SqliteDatabaseManager(SqliteSettings(path=Path(sys.argv[1])))
            await manager.start()
            columns = (Column("n", "integer"), Column("half", "integer"))
            await manager.ensure_table(TableSchema("t", columns, ("n", "half")))

            async def write(caller):
                for n in range(caller, 10_000_000, 16):
                    await manager.execute_transaction(
                        [{"type": "insert", "table": "t", "data": {"n": n, "half": half}} for half in (1, 2)]
                    )
                    print(n, flush=True)

            await asyncio.gather(*(write(caller) for caller in range(16)))

        asyncio.run(main())
    """
    process = run_python(code, path)
    assert process.stdout is not None
    acknowledged = {int(process.stdout.readline()) for _ in range(500)}
    process.kill()
    acknowledged |= {int(line) for line in process.stdout.read().split("\n")[:-1]}
    process.wait(timeout=60)
    process.stdout.close()
    manager = SqliteDatabaseManager(SqliteSettings(path=path))
    await manager.start()
    rows = [(row["n"], row["half"]) for row in await manager.find("t", order_by=["n", "half"])]
    assert {(n, half) for n in acknowledged for half in (1, 2)} <= set(rows)
    assert rows[::2] == [(n, 1) for n, _ in rows[1::2]]
    assert await manager.execute_query("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    await manager.stop()
