from __future__ import annotations

import asyncio
import shutil
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from base04.testing.conformance.database import ADA, PEOPLE, Another, SqlConformance, insert
from base04_builtin.database import database_providers
from base04_builtin.database.sqlite import SqliteDatabaseManager, SqliteSettings
from base04_hookspecs.database import Column, DatabaseManager, Operation, TableSchema
from base04_hookspecs.errors import (
    ConfigurationError,
    Conflict,
    InvalidInput,
    ManagerError,
    ManagerUnavailable,
    NotSupported,
)

PROVIDER = next(provider for provider in database_providers() if provider.name == "sqlite")
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) AS n FROM n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "base04.sqlite3"


@asynccontextmanager
async def running(path: Path) -> AsyncIterator[SqliteDatabaseManager]:
    database = SqliteDatabaseManager(SqliteSettings(path=path))
    await database.start()
    try:
        yield database
    finally:
        await database.stop()


@pytest.fixture
async def manager(path: Path) -> AsyncIterator[SqliteDatabaseManager]:
    async with running(path) as database:
        yield database


class TestSqlite(SqlConformance):
    capabilities = PROVIDER.capabilities

    @pytest.fixture
    def another(self, path: Path) -> Another:
        return lambda: running(path)


# Pool status is polled below (ASYNC110): threads announce to nobody that they have begun or ended.


async def settled(manager: DatabaseManager) -> None:
    async with asyncio.timeout(10):
        while (status := await manager.get_connection_pool_status())["in_use"] or status["waiting"]:
            await asyncio.sleep(0.001)


def run_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


def test_plugin_imports_no_implementation() -> None:
    code = """
        import sys
        before = set(sys.modules)
        import base04_builtin.database, base04_builtin.state
        heavy = {"sqlite3", "sqlalchemy", "pydantic", "base04_builtin.database.sqlite"} & (sys.modules.keys() - before)
        print(heavy or "none")
    """
    output, _ = run_python(code).communicate(timeout=60)
    assert output.strip() == "none"


async def test_files_are_for_the_owner_alone(manager: SqliteDatabaseManager, path: Path) -> None:
    await manager.ensure_table(PEOPLE)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
    assert modes.keys() >= {"base04.sqlite3", "base04.sqlite3-wal"}
    assert set(modes.values()) == {0o600}


async def test_everything_is_there_after_a_restart(manager: SqliteDatabaseManager, path: Path) -> None:
    await manager.ensure_table(PEOPLE)
    await manager.execute_transaction([insert(**ADA)])
    await manager.stop()
    again = SqliteDatabaseManager(SqliteSettings(path=path))
    await again.start()
    assert await again.find(PEOPLE.name) == [ADA]
    await again.stop()


async def test_stop_leaves_one_file_and_no_thread(path: Path) -> None:
    manager = SqliteDatabaseManager(SqliteSettings(path=path))
    await manager.start()
    await manager.ensure_table(PEOPLE)
    await asyncio.gather(*(manager.find(PEOPLE.name) for _ in range(20)))
    await manager.stop()
    await manager.stop()
    assert [entry.name for entry in path.parent.iterdir()] == ["base04.sqlite3"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("base04-")]
    assert await manager.check_connection() is False
    with pytest.raises(ManagerUnavailable, match="not running"):
        await manager.find(PEOPLE.name)


async def test_stop_finishes_what_was_submitted(path: Path) -> None:
    manager = SqliteDatabaseManager(SqliteSettings(path=path))
    await manager.start()
    await manager.ensure_table(PEOPLE)
    writes = [asyncio.create_task(manager.execute_transaction([insert(id=str(n))])) for n in range(50)]
    await settled_start(writes)
    await manager.stop()
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    with sqlite3.connect(path) as connection:
        [stored] = connection.execute(f"SELECT count(*) FROM {PEOPLE.name}").fetchone()
    connection.close()
    assert outcomes.count(True) == stored > 0


async def settled_start(tasks: list[asyncio.Task[bool]]) -> None:
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


async def test_start_that_fails_can_be_stopped(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.sqlite3"
    damaged.write_bytes(b"this is no database at all" * 1000)
    manager = SqliteDatabaseManager(SqliteSettings(path=damaged))
    with pytest.raises(ManagerUnavailable, match="not a SQLite database"):
        await manager.start()
    assert await manager.check_connection() is False
    assert (await manager.health_check())["status"] == "unhealthy"
    await manager.stop()


async def test_folder_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    manager = SqliteDatabaseManager(SqliteSettings(path=tmp_path / "file" / "base04.sqlite3"))
    with pytest.raises(ConfigurationError, match=r"managers\.database\.sqlite\.path"):
        await manager.start()
    await manager.stop()


def test_stop_without_start(path: Path) -> None:
    asyncio.run(SqliteDatabaseManager(SqliteSettings(path=path)).stop())
    assert not path.exists()


@pytest.mark.parametrize(
    "query",
    [
        "ATTACH 'other.sqlite3' AS other",
        "DETACH main",
        "PRAGMA query_only = OFF",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA writable_schema = ON",
        "CREATE TEMP TABLE t (a)",
        "CREATE TEMP VIEW v AS SELECT 1",
        "VACUUM INTO 'copy.sqlite3'",
        "SELECT load_extension('x')",
        "BEGIN IMMEDIATE",
        "END",
        "SELECT ?1",
        "SELECT @a",
        "SELECT $a",
        "SELECT 'a\0b'",
    ],
)
@pytest.mark.parametrize("access", ["read_write", "read_only"])
async def test_statement_that_would_change_a_connection_is_refused(
    manager: SqliteDatabaseManager, query: str, access: Any
) -> None:
    view = manager.with_access(access)
    with pytest.raises((InvalidInput, NotSupported)):
        await view.execute_query(query)
    assert await view.execute_query("SELECT 1 AS one") == [{"one": 1}]
    assert await manager.execute_query("CREATE TABLE still_writable (a)") == 0


async def test_read_only_view_cannot_be_widened(manager: SqliteDatabaseManager) -> None:
    with pytest.raises(NotSupported):
        manager.with_access("read_only").with_access("admin")


async def test_number_of_touched_rows_behind_a_common_table_expression(manager: SqliteDatabaseManager) -> None:
    await manager.ensure_table(PEOPLE)
    await manager.execute_transaction([insert(id=str(n)) for n in range(5)])
    some = "WITH some AS (SELECT id FROM conformance_people LIMIT 3)"
    query = f"{some} UPDATE conformance_people SET age = 1 WHERE id IN some"
    assert [await manager.execute_query(query) for _ in range(2)] == [3, 3]


async def test_reading_pragmas_work(manager: SqliteDatabaseManager) -> None:
    await manager.ensure_table(PEOPLE)
    rows = await manager.execute_query(f"PRAGMA table_info({PEOPLE.name})")
    assert [row["name"] for row in rows] == [column.name for column in PEOPLE.columns]


async def test_foreign_keys_are_enforced(manager: SqliteDatabaseManager) -> None:
    await manager.execute_query("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
    await manager.execute_query(
        "CREATE TABLE children (parent INTEGER REFERENCES parents DEFERRABLE INITIALLY DEFERRED)"
    )
    with pytest.raises(Conflict):
        await manager.execute_transaction([{"type": "insert", "table": "children", "data": {"parent": 1}}])
    assert await manager.count("children") == 0


async def test_reading_sees_what_was_just_written(manager: SqliteDatabaseManager) -> None:
    await manager.ensure_table(PEOPLE)

    async def write_and_read(n: int) -> int:
        await manager.execute_transaction([insert(id=str(n), age=n)])
        return (await manager.find(PEOPLE.name, {"id": str(n)}))[0]["age"]  # type: ignore[no-any-return]

    assert await asyncio.gather(*(write_and_read(n) for n in range(100))) == list(range(100))


async def test_statement_timeout_interrupts(path: Path) -> None:
    manager = SqliteDatabaseManager(SqliteSettings(path=path, statement_timeout=0.05, readers=1))
    await manager.start()
    await manager.execute_query("CREATE TABLE t (a)")
    with pytest.raises(ManagerUnavailable, match="statement_timeout"):
        await manager.execute_query(ENDLESS)
    with pytest.raises(ManagerUnavailable, match="statement_timeout"):
        await manager.execute_query(f"INSERT INTO t {ENDLESS}")
    assert await manager.execute_query("INSERT INTO t VALUES (1)") == 1
    assert await manager.execute_query("SELECT a FROM t") == [{"a": 1}]
    assert (await manager.health_check())["metrics"]["errors"] == 2
    await manager.stop()


async def test_wait_for_a_connection_is_bounded(path: Path) -> None:
    manager = SqliteDatabaseManager(SqliteSettings(path=path, readers=1, pool_timeout=0.05))
    await manager.start()
    endless = asyncio.create_task(manager.execute_query(ENDLESS))
    async with asyncio.timeout(10):
        while not (await manager.get_connection_pool_status())["in_use"]:
            await asyncio.sleep(0)
    with pytest.raises(ManagerUnavailable, match="became free"):
        await manager.execute_query("SELECT 1")
    assert await manager.check_connection() is False
    assert (await manager.get_connection_pool_status())["in_use"] == 1
    endless.cancel()
    with pytest.raises(asyncio.CancelledError):
        await endless
    await settled(manager)
    assert await manager.check_connection() is True
    await manager.stop()


async def test_cancelled_queries_leak_nothing(path: Path) -> None:
    manager = SqliteDatabaseManager(SqliteSettings(path=path, readers=2))
    await manager.start()
    queries = [asyncio.create_task(manager.execute_query(ENDLESS)) for _ in range(1000)]
    async with asyncio.timeout(10):
        while (await manager.get_connection_pool_status())["in_use"] < 2:
            await asyncio.sleep(0)
    for query in queries:
        query.cancel()
    outcomes = await asyncio.gather(*queries, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    await settled(manager)
    status = await manager.get_connection_pool_status()
    assert (status["in_use"], status["waiting"]) == (0, 0)
    assert len([thread for thread in threading.enumerate() if thread.name.startswith("base04-")]) <= 3
    assert await manager.execute_query("SELECT 1 AS one") == [{"one": 1}]
    await manager.stop()


async def test_cancelled_writes_are_done_or_not_begun(manager: SqliteDatabaseManager) -> None:
    await manager.ensure_table(PEOPLE)
    await manager.execute_transaction([insert(id="first")])
    writes = [
        asyncio.create_task(manager.execute_transaction([insert(id=f"{n}-a"), insert(id=f"{n}-b")])) for n in range(200)
    ]
    await asyncio.wait(writes[:5], return_when=asyncio.FIRST_COMPLETED)
    for write in writes:
        write.cancel()
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    await settled(manager)
    stored = {row["id"] for row in await manager.find(PEOPLE.name)}
    for n, outcome in enumerate(outcomes):
        assert (f"{n}-a" in stored) == (f"{n}-b" in stored)
        assert outcome is not True or f"{n}-a" in stored
    assert await manager.execute_transaction([insert(id="last")]) is True


async def test_lock_of_another_process_is_waited_for_and_reported(path: Path) -> None:
    manager = SqliteDatabaseManager(SqliteSettings(path=path, busy_timeout=0.05))
    await manager.start()
    await manager.ensure_table(PEOPLE)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ManagerUnavailable, match="busy_timeout"):
        await manager.execute_transaction([insert(id="a")])
    assert await manager.count(PEOPLE.name) == 0
    assert (await manager.health_check())["status"] == "degraded"
    other.execute("ROLLBACK")
    other.close()
    assert await manager.execute_transaction([insert(id="a")]) is True
    assert (await manager.health_check())["status"] == "healthy"
    await manager.stop()


async def test_full_disk_is_reported_and_recovered_from(manager: SqliteDatabaseManager, path: Path) -> None:
    code = """
        import asyncio, resource, signal, sys
        from pathlib import Path
        from base04_builtin.database.sqlite import SqliteDatabaseManager, SqliteSettings
        from base04_hookspecs.errors import ManagerUnavailable, OutcomeUnknown

        async def main():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            manager = SqliteDatabaseManager(SqliteSettings(path=Path(sys.argv[1])))
            await manager.start()
            await manager.execute_query("CREATE TABLE t (a BLOB)")
            big = [{"type": "insert", "table": "t", "data": {"a": bytes(3_000_000)}}]
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
            try:
                await manager.execute_transaction(big)
            except (ManagerUnavailable, OutcomeUnknown) as error:
                print(type(error).__name__, await manager.count("t"))
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            await manager.execute_transaction(big)
            print(await manager.count("t"), await manager.execute_query("PRAGMA integrity_check"))
            await manager.stop()

        asyncio.run(main())
    """
    output, _ = run_python(code, path.with_name("full.sqlite3")).communicate(timeout=60)
    assert output.splitlines() == ["ManagerUnavailable 0", "1 [{'integrity_check': 'ok'}]"]


async def test_value_that_is_too_large_is_refused(path: Path) -> None:
    manager = SqliteDatabaseManager(SqliteSettings(path=path, max_value_bytes=1024))
    await manager.start()
    await manager.ensure_table(PEOPLE)
    for column, value in (("bio", "\u00e9" * 513), ("photo", bytes(1025)), ("profile", ["x" * 1024])):
        with pytest.raises(InvalidInput, match="1024"):
            await manager.execute_transaction([insert(**{"id": "x", column: value})])
    with pytest.raises(InvalidInput, match="1024"):
        await manager.execute_query("SELECT :a", {"a": "x" * 1025})
    assert await manager.execute_transaction([insert(id="x", bio="\u00e9" * 512)]) is True
    await manager.stop()


async def test_tables_that_another_process_declares_are_known(manager: SqliteDatabaseManager, path: Path) -> None:
    await manager.ensure_table(TableSchema("t", (Column("id", "integer"),), ("id",)))
    await manager.count("t")
    other = SqliteDatabaseManager(SqliteSettings(path=path))
    await other.start()
    await other.ensure_table(TableSchema("t", (Column("id", "integer"), Column("flag", "boolean")), ("id",)))
    await other.execute_transaction([{"type": "insert", "table": "t", "data": {"id": 1, "flag": True}}])
    await other.stop()
    assert await manager.find("t", {"flag": True}) == [{"id": 1, "flag": True}]


@pytest.mark.parametrize(
    "changed",
    [
        TableSchema("t", (Column("id", "string"),), ("id",)),
        TableSchema("t", (Column("id", "integer"), Column("n", "integer", nullable=False)), ("id",)),
        TableSchema("t", (Column("id", "integer"), Column("old", "text")), ("old",)),
    ],
)
async def test_declaration_that_contradicts_the_stored_one_is_refused(
    manager: SqliteDatabaseManager, changed: TableSchema
) -> None:
    await manager.ensure_table(TableSchema("t", (Column("id", "integer"), Column("old", "text")), ("id",)))
    with pytest.raises(ConfigurationError, match="'t'"):
        await manager.ensure_table(changed)


async def test_table_made_with_sql_can_be_declared_afterwards(manager: SqliteDatabaseManager) -> None:
    await manager.execute_query("CREATE TABLE t (id INTEGER PRIMARY KEY, flag INTEGER)")
    await manager.execute_query("INSERT INTO t VALUES (1, 1)")
    columns = (Column("id", "integer"), Column("flag", "boolean"), Column("data", "json"))
    await manager.ensure_table(TableSchema("t", columns, ("id",)))
    assert await manager.find("t") == [{"id": 1, "flag": True, "data": None}]
    await manager.execute_query("CREATE TABLE u (id INTEGER PRIMARY KEY)")
    with pytest.raises(ConfigurationError, match="must"):
        await manager.ensure_table(TableSchema("u", (Column("id", "integer"), Column("must", "text", False)), ("id",)))


async def test_json_written_past_the_manager_is_reported(manager: SqliteDatabaseManager) -> None:
    await manager.ensure_table(PEOPLE)
    await manager.execute_query(f"INSERT INTO {PEOPLE.name} (id, profile) VALUES ('a', 'no json')")
    with pytest.raises(ManagerError, match=r"conformance_people\.profile"):
        await manager.find(PEOPLE.name)


async def test_names_that_differ_in_case_are_not_confused(manager: SqliteDatabaseManager) -> None:
    await manager.ensure_table(PEOPLE)
    with pytest.raises(InvalidInput, match="conformance_people"):
        await manager.find("Conformance_People")
    with pytest.raises(ConfigurationError, match="case"):
        await manager.ensure_table(TableSchema("Conformance_People", (Column("id", "string"),), ("id",)))


@pytest.mark.parametrize("table", ["_base04_tables", "_BASE04_VERSIONS", "sqlite_master", "sqlite_sequence"])
async def test_reserved_tables_are_out_of_reach(manager: SqliteDatabaseManager, table: str) -> None:
    with pytest.raises(InvalidInput, match="reserved"):
        await manager.find(table)
    with pytest.raises(InvalidInput, match="reserved"):
        await manager.execute_transaction([{"type": "delete", "table": table, "where": {"name": "x"}}])


@pytest.mark.parametrize(
    "query",
    [
        "DROP TABLE _base04_tables",
        "DELETE FROM _base04_versions",
        "UPDATE _base04_versions SET version = 9",
        "INSERT INTO _base04_versions VALUES ('x', 1)",
        "ALTER TABLE _base04_versions RENAME TO mine",
    ],
)
async def test_own_tables_cannot_be_changed_by_statements(manager: SqliteDatabaseManager, query: str) -> None:
    with pytest.raises(InvalidInput):
        await manager.execute_query(query)
    assert await manager.execute_query("SELECT count(*) AS n FROM _base04_versions") == [{"n": 0}]


async def test_dropped_table_is_made_again(manager: SqliteDatabaseManager) -> None:
    await manager.ensure_table(PEOPLE)
    await manager.execute_query(f"DROP TABLE {PEOPLE.name}")
    with pytest.raises(InvalidInput, match="no such table"):
        await manager.find(PEOPLE.name)
    await manager.ensure_table(PEOPLE)
    await manager.execute_transaction([insert(id="a", email="e")])
    with pytest.raises(Conflict):
        await manager.execute_transaction([insert(id="b", email="e")])


async def test_migration_inside_a_migration_is_refused(manager: SqliteDatabaseManager) -> None:
    async def inner(database: DatabaseManager) -> None: ...

    async def outer(database: DatabaseManager) -> None:
        await database.migrate("inner", [inner])

    with pytest.raises(ConfigurationError, match="wait for itself"):
        await manager.migrate("outer", [outer])
    assert await manager.migrate("inner", [inner]) == 1


async def test_replaced_file_is_unhealthy(manager: SqliteDatabaseManager, path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)
    report = await manager.health_check()
    assert report["status"] == "unhealthy"
    assert "replaced" in report["details"]


async def test_acknowledged_writes_survive_a_kill(path: Path) -> None:
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
            for n in range(1_000_000):
                await manager.execute_transaction(
                    [{"type": "insert", "table": "t", "data": {"n": n, "half": half}} for half in (1, 2)]
                )
                print(n, flush=True)

        asyncio.run(main())
    """
    process = run_python(code, path)
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(100)]
    process.kill()
    acknowledged += [int(line) for line in process.stdout.read().split("\n")[:-1]]
    process.wait(timeout=60)
    process.stdout.close()
    manager = SqliteDatabaseManager(SqliteSettings(path=path))
    await manager.start()
    rows = [(row["n"], row["half"]) for row in await manager.find("t", order_by=["n", "half"])]
    assert rows[: 2 * len(acknowledged)] == [(n, half) for n in acknowledged for half in (1, 2)]
    assert len(rows) - 2 * len(acknowledged) in (0, 2)
    await manager.stop()


MIGRATING = """
    import asyncio, sys
    from pathlib import Path
    from base04_builtin.database.sqlite import SqliteDatabaseManager, SqliteSettings
    from base04_hookspecs.database import Column, TableSchema

    TABLE = TableSchema("ran", (Column("step", "integer"), Column("who", "string")), ("step", "who"))

    def step(number):
        async def migrate(database):
            await database.ensure_table(TABLE)
            await database.execute_transaction(
                [{"type": "insert", "table": "ran", "data": {"step": number, "who": sys.argv[2]}}]
            )
            if len(sys.argv) > 3 and number == int(sys.argv[3]):
                print("inside", flush=True)
                await asyncio.sleep(3600)
        return migrate

    async def main():
        manager = SqliteDatabaseManager(SqliteSettings(path=Path(sys.argv[1])))
        await manager.start()
        print(await manager.migrate("test", [step(number) for number in range(1, 6)]))
        await manager.stop()

    asyncio.run(main())
"""


async def test_three_processes_migrate_once(path: Path) -> None:
    processes = [run_python(MIGRATING, path, who) for who in "abc"]
    outputs = [process.communicate(timeout=60)[0].split()[-1] for process in processes]
    assert outputs == ["5", "5", "5"]
    manager = SqliteDatabaseManager(SqliteSettings(path=path))
    await manager.start()
    assert [row["step"] for row in await manager.find("ran", order_by=["step"])] == [1, 2, 3, 4, 5]
    await manager.stop()


async def test_killed_migration_is_taken_over(path: Path) -> None:
    process = run_python(MIGRATING, path, "killed", 3)
    assert process.stdout is not None
    while process.stdout.readline().strip() != "inside":
        assert process.poll() is None
    process.kill()
    process.communicate(timeout=60)
    output, _ = run_python(MIGRATING, path, "next").communicate(timeout=60)
    assert output.split()[-1] == "5"
    manager = SqliteDatabaseManager(SqliteSettings(path=path))
    await manager.start()
    rows = await manager.find("ran", order_by=["step", "who"])
    assert [(row["step"], row["who"]) for row in rows] == [
        (1, "killed"),
        (2, "killed"),
        (3, "killed"),
        (3, "next"),
        (4, "next"),
        (5, "next"),
    ]
    await manager.stop()


async def test_migration_lock_of_another_process_is_bounded(path: Path) -> None:
    process = run_python(MIGRATING, path, "holder", 1)
    assert process.stdout is not None
    while process.stdout.readline().strip() != "inside":
        assert process.poll() is None
    manager = SqliteDatabaseManager(SqliteSettings(path=path, migration_timeout=0.05))
    await manager.start()

    async def step(database: DatabaseManager) -> None:
        raise AssertionError("another process is migrating")

    with pytest.raises(ManagerUnavailable, match="migrating"):
        await manager.migrate("test", [step])
    await manager.stop()
    process.kill()
    process.communicate(timeout=60)


async def test_many_inserts_are_all_there_in_one_transaction_with_other_operations(
    manager: SqliteDatabaseManager,
) -> None:
    await manager.ensure_table(PEOPLE)
    rows = [insert(id=f"{number:03}", age=number) for number in range(217)]
    named = [insert(id=f"named {number}", email=f"{number}@example.org") for number in range(12)]
    change: Operation = {
        "type": "update",
        "table": PEOPLE.name,
        "where": {"id": "110"},
        "data": {"age": -1},
        "expect": 1,
    }
    await manager.execute_transaction([*rows[:130], change, *rows[130:], *named])
    found = await manager.find(PEOPLE.name, {"age": {"ne": None}}, ["id"])
    assert [row["age"] for row in found] == [-1 if number == 110 else number for number in range(217)]
    assert await manager.count(PEOPLE.name, {"email": {"prefix": ""}}) == 12


@pytest.mark.parametrize("taken", [0, 57, 99, 100, 216])
async def test_row_that_is_refused_among_many_is_named_and_nothing_is_done(
    manager: SqliteDatabaseManager, taken: int
) -> None:
    await manager.ensure_table(PEOPLE)
    await manager.execute_transaction([insert(id=f"{taken:03}", age=1000)])
    with pytest.raises(Conflict, match=f"The operation {taken + 1} of 217 is refused"):
        await manager.execute_transaction([insert(id=f"{number:03}", age=number) for number in range(217)])
    assert [row["age"] for row in await manager.find(PEOPLE.name)] == [1000]


async def test_inserts_that_expect_otherwise_fail_as_they_would_by_themselves(manager: SqliteDatabaseManager) -> None:
    await manager.ensure_table(PEOPLE)
    operations = [insert(id=f"{number:03}") for number in range(40)]
    operations[25]["expect"] = 0
    with pytest.raises(Conflict, match="operation 26 of 40 touched 1 rows where 0 were expected"):
        await manager.execute_transaction(operations)
    assert await manager.count(PEOPLE.name) == 0
