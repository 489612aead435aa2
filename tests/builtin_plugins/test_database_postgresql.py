"""The provider ``postgresql`` on a real server, when nothing goes wrong."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

from base04.testing.conformance.database import ADA, PEOPLE, Another, SqlConformance, insert
from base04.testing.servers.postgres import PostgresServer
from base04_builtin.database import database_providers
from base04_builtin.database.postgresql import PostgresDatabaseManager, PostgresSettings
from base04_hookspecs.database import Column, DatabaseManager, TableSchema
from base04_hookspecs.errors import (
    ConfigurationError,
    Conflict,
    InvalidInput,
    ManagerUnavailable,
    NotSupported,
)
from postgres_kit import postgres, postgres_settings, postgres_url, started

PROVIDER = {provider.name: provider for provider in database_providers()}["postgresql"]
__all__ = ["postgres", "postgres_url"]


@pytest.fixture
async def manager(postgres_url: str) -> AsyncIterator[PostgresDatabaseManager]:
    async with started(postgres_url) as database:
        yield database


class TestPostgresql(SqlConformance):
    capabilities = PROVIDER.capabilities

    @pytest.fixture
    def another(self, postgres_url: str) -> Another:
        return lambda: started(postgres_url)


def run_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


def test_plugin_imports_no_driver() -> None:
    code = """
        import sys
        import base04_builtin.database
        print({"asyncpg", "sqlalchemy", "base04_builtin.database.postgresql"} & sys.modules.keys() or "none")
    """
    output, _ = run_python(code).communicate(timeout=60)
    assert output.strip() == "none"


async def test_examples_of_the_specification(manager: DatabaseManager) -> None:
    await manager.execute_query("CREATE TABLE users (id integer, name text)")
    await manager.execute_query("CREATE TABLE sessions (user_id integer)")
    await manager.execute_query("INSERT INTO sessions VALUES (7)")
    await manager.execute_query("INSERT INTO users (id) VALUES (123)")
    assert await manager.check_connection()
    result = await manager.execute_query("SELECT * FROM users WHERE id = %s", {"id": 123})
    assert result == [{"id": 123, "name": None}]
    assert await manager.execute_transaction(
        [
            {"type": "insert", "table": "users", "data": {"name": "John"}},
            {"type": "update", "table": "sessions", "data": {"user_id": 123}},
        ]
    )
    assert await manager.execute_query("SELECT name, user_id FROM users, sessions WHERE name = 'John'") == [
        {"name": "John", "user_id": 123}
    ]


async def test_order_of_text_is_by_code_point_whatever_the_locale(manager: DatabaseManager) -> None:
    await manager.ensure_table(PEOPLE)
    words = ["a", "B", "_", "\u00e9", "Z", "ab"]
    await manager.execute_transaction([insert(id=word, email=word) for word in words])
    rows = await manager.find(PEOPLE.name, {"email": {"gte": "Z"}}, ["email"], columns=["email"])
    assert [row["email"] for row in rows] == sorted(word for word in words if word >= "Z")


async def test_prefix_of_undeclared_columns_is_by_code_point(manager: DatabaseManager) -> None:
    await manager.execute_query("CREATE TABLE plain (word text)")
    for word in ("x_1", "X_2", "xx3"):
        await manager.execute_query("INSERT INTO plain VALUES (:word)", {"word": word})
    assert await manager.find("plain", {"word": {"prefix": "x_"}}) == [{"word": "x_1"}]


async def test_undeclared_tables_take_and_give_their_own_types(manager: DatabaseManager) -> None:
    await manager.execute_query(
        "CREATE TABLE plain (at timestamptz, wall timestamp, day date, hour time, pause interval, price numeric, "
        "total numeric, code uuid, doc jsonb, tags text[], small int2, ratio float4, yes boolean)"
    )
    moment = datetime(2026, 2, 3, 4, 5, 6, 789000, tzinfo=UTC)
    data = {
        "at": moment,
        "wall": moment,
        "day": "2026-02-03",
        "hour": "04:05:06",
        "pause": 1.5,
        "price": 12.75,
        "total": 10**17,
        "code": "0b1c2d3e-0000-4000-8000-000000000001",
        "doc": '{"a": [1, null]}',
        "small": 7,
        "ratio": 0.5,
        "yes": True,
    }
    await manager.execute_transaction([{"type": "insert", "table": "plain", "data": data}])
    await manager.execute_query("UPDATE plain SET tags = ARRAY['a', 'b']")
    expected = data | {
        "at": moment.timestamp(),
        "wall": "2026-02-03T04:05:06.789000",
        "doc": {"a": [1, None]},
        "tags": ["a", "b"],
    }
    assert await manager.find("plain", {"at": {"gte": moment}, "price": 12.75}) == [expected]
    assert await manager.execute_query("SELECT * FROM plain WHERE at = :at", {"at": moment.timestamp()}) == [expected]
    assert await manager.execute_query("SELECT sum(small) AS n, avg(small) AS mean FROM plain") == [{"n": 7, "mean": 7}]


@pytest.mark.parametrize(
    ("column", "value"),
    [("small", 2**20), ("small", "7"), ("at", "yesterday"), ("price", "much"), ("code", "no uuid"), ("word", 7)],
)
async def test_value_that_does_not_fit_an_undeclared_column(manager: DatabaseManager, column: str, value: Any) -> None:
    await manager.execute_query("CREATE TABLE plain (small int2, at timestamptz, price numeric, code uuid, word text)")
    with pytest.raises(InvalidInput) as caught:
        await manager.execute_transaction([{"type": "insert", "table": "plain", "data": {column: value}}])
    assert str(value) not in str(caught.value).replace("$1", "")
    assert await manager.count("plain") == 0


@pytest.mark.parametrize(
    ("query", "params", "value"),
    [
        ("SELECT CAST(:a AS integer) + CAST(:a AS integer) AS v", {"a": 2}, 4),
        ("SELECT :a::int AS v", {"a": 2}, 2),
        ("SELECT $$ :a %s $$ AS v", None, " :a %s "),
        ("SELECT $t$ $$ :a $t$ AS v", None, " $$ :a "),
        ("SELECT E'it\\'s :a' AS v", None, "it's :a"),
        ("SELECT /* :a /* %s */ :b */ 1 AS v", None, 1),
        ("SELECT (ARRAY[1, 2, 3])[2] AS v", None, 2),
        ("SELECT '{\"k\": 1}'::jsonb ? 'k' AS v", None, True),
        ("(SELECT %s::text AS v)", {"anything": "x"}, "x"),
        ("SELECT CASE WHEN CAST(:a AS integer) IS NULL THEN 0 ELSE :a END AS v", {"a": 5}, 5),
    ],
)
async def test_placeholders_and_the_syntax_of_postgresql(
    manager: DatabaseManager, query: str, params: Any, value: Any
) -> None:
    assert await manager.execute_query(query, params) == [{"v": value}]


@pytest.mark.parametrize(
    "query",
    [
        "SET search_path = nowhere",
        "SELECT $1",
        "/* x */ begin",
        "COPY (SELECT 1) TO STDOUT",
        "LISTEN news",
        "PREPARE p AS SELECT 1",
        "SELECT '\ud800'",
    ],
)
async def test_statements_that_are_not_for_callers(manager: DatabaseManager, query: str) -> None:
    with pytest.raises(InvalidInput):
        await manager.execute_query(query)
    assert await manager.check_connection()


@pytest.mark.parametrize(
    "query",
    [
        "SELECT set_config('search_path', 'nowhere', false)",
        f"CREATE TEMPORARY TABLE {PEOPLE.name} (id text)",
        f"SELECT 'x' AS id INTO TEMP {PEOPLE.name}",
        "DO $$ BEGIN PERFORM set_config('search_path', 'nowhere', false); END $$",
    ],
)
async def test_statement_leaves_nothing_behind_on_its_connection(postgres_url: str, query: str) -> None:
    async with started(postgres_url, pool_size=1) as manager:
        await manager.ensure_table(PEOPLE)
        await manager.execute_transaction([insert(**ADA)])
        await manager.execute_query(query)
        assert await manager.find(PEOPLE.name) == [ADA]


async def test_table_that_changes_is_read_as_it_is(manager: DatabaseManager) -> None:
    await manager.execute_query("CREATE TABLE plain (a integer)")
    await manager.execute_query("INSERT INTO plain VALUES (1)")
    assert await manager.find("plain") == [{"a": 1}]
    await manager.execute_query("ALTER TABLE plain ADD COLUMN b text")
    await asyncio.gather(*(manager.find("plain") for _ in range(10)))
    assert await manager.find("plain") == [{"a": 1, "b": None}]


async def test_declared_table_must_fit_what_is_there(manager: DatabaseManager) -> None:
    await manager.execute_query("CREATE TABLE plain (id integer, flag integer)")
    with pytest.raises(ConfigurationError, match="flag"):
        await manager.ensure_table(TableSchema("plain", (Column("id", "integer"), Column("flag", "boolean")), ("id",)))
    await manager.ensure_table(TableSchema("plain", (Column("id", "integer"), Column("n", "json")), ("id",)))
    upsert: Any = {"type": "upsert", "table": "plain", "data": {"n": [1]}, "where": {"id": 1}}
    await asyncio.gather(*(manager.execute_transaction([upsert]) for _ in range(10)))
    assert await manager.find("plain") == [{"id": 1, "n": [1]}]


async def test_concurrent_upserts_make_one_row(manager: DatabaseManager) -> None:
    await manager.ensure_table(PEOPLE)
    for round_ in range(5):
        upserts: list[Any] = [
            {"type": "upsert", "table": PEOPLE.name, "data": {"age": n}, "where": {"id": str(round_)}, "expect": 1}
            for n in range(20)
        ]
        assert all(await asyncio.gather(*(manager.execute_transaction([upsert]) for upsert in upserts)))
    assert await manager.count(PEOPLE.name) == 5


async def test_unmet_expectation_of_many_rows_undoes_them(manager: DatabaseManager) -> None:
    await manager.ensure_table(PEOPLE)
    await manager.execute_transaction([insert(id="a", age=1), insert(id="b", age=1)])
    for expect in (0, 1, 3):
        with pytest.raises(Conflict):
            await manager.execute_transaction(
                [{"type": "update", "table": PEOPLE.name, "data": {"age": 9}, "where": {"age": 1}, "expect": expect}]
            )
    with pytest.raises(Conflict):
        await manager.execute_transaction(
            [{"type": "update", "table": PEOPLE.name, "data": {"age": 9}, "where": {"id": "a"}, "expect": 0}]
        )
    assert await manager.count(PEOPLE.name, {"age": 1}) == 2


async def test_many_inserts_are_all_or_nothing(manager: DatabaseManager) -> None:
    await manager.ensure_table(PEOPLE)
    await manager.execute_transaction([insert(id=str(n), age=n, profile={"n": n}) for n in range(300)])
    with pytest.raises(Conflict, match="1 of 200"):
        await manager.execute_transaction([insert(id=str(n), age=n, profile={"n": n}) for n in range(250, 450)])
    assert await manager.count(PEOPLE.name) == 300


async def test_value_that_is_too_large_is_refused(postgres_url: str) -> None:
    async with started(postgres_url, max_value_bytes=1024) as manager:
        await manager.ensure_table(PEOPLE)
        with pytest.raises(InvalidInput, match="1024"):
            await manager.execute_transaction([insert(id="x", bio="\u00e9" * 513)])
        assert await manager.execute_transaction([insert(id="x", bio="\u00e9" * 512)])


async def test_access_roles_use_their_own_credentials(postgres: PostgresServer, postgres_url: str) -> None:
    database = postgres_url.rpartition("/")[2]
    postgres.sql("DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN PASSWORD 'canary-reader'", database)
    reader_url = postgres.url_of(database, "reader", "canary-reader")
    async with started(postgres_url, read_only_url=reader_url, admin_url=postgres_url) as manager:
        await manager.ensure_table(PEOPLE)
        who = "SELECT current_user::text AS name"
        assert await manager.with_access("read_only").execute_query(who) == [{"name": "reader"}]
        assert await manager.with_access("admin").execute_query(who) == [{"name": "postgres"}]
        with pytest.raises(NotSupported, match="permission denied"):
            await manager.with_access("read_only").find(PEOPLE.name)
        postgres.sql(f"GRANT SELECT ON {PEOPLE.name} TO reader", database)
        assert await manager.with_access("read_only").find(PEOPLE.name) == []
        status = await manager.with_access("admin").get_connection_pool_status()
        assert status == {"size": 4, "in_use": 0, "idle": 1, "waiting": 0}
    postgres.sql("DROP OWNED BY reader; DROP ROLE reader", database)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT write_one()",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "DO $$ BEGIN SET TRANSACTION READ WRITE; INSERT INTO conformance_people (id) VALUES ('x'); END $$",
        "DO $$ BEGIN SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; END $$",
        "SELECT set_config('default_transaction_read_only', 'off', false)",
        "EXPLAIN ANALYZE INSERT INTO conformance_people (id) VALUES ('x')",
    ],
)
async def test_read_only_cannot_be_talked_out_of_it(manager: DatabaseManager, query: str) -> None:
    await manager.ensure_table(PEOPLE)
    await manager.execute_query(
        "CREATE FUNCTION write_one() RETURNS integer LANGUAGE sql AS "
        "$$ INSERT INTO conformance_people (id) VALUES ('x') RETURNING 1 $$"
    )
    reader = manager.with_access("read_only")
    for statement in (query, "INSERT INTO conformance_people (id) VALUES ('y')"):
        try:
            await reader.execute_query(statement)
        except (NotSupported, InvalidInput):
            continue
    assert await manager.count(PEOPLE.name) == 0


async def test_health_says_what_answers(manager: DatabaseManager) -> None:
    report = await manager.health_check()
    assert report["status"] == "healthy"
    assert "PostgreSQL" in report["details"]
    assert report["metrics"]["connections"] >= 1


async def test_stop_leaves_no_connection(postgres: PostgresServer, postgres_url: str) -> None:
    manager = PostgresDatabaseManager(postgres_settings(postgres_url, application_name="leaving"))
    await manager.start()
    await asyncio.gather(*(manager.execute_query("SELECT pg_sleep(0.01)") for _ in range(8)))
    await manager.stop()
    await manager.stop()
    assert not await manager.check_connection()
    with pytest.raises(ManagerUnavailable, match="not running"):
        await manager.find(PEOPLE.name)
    async with asyncio.timeout(30):
        while connections(postgres, "leaving"):
            await asyncio.sleep(0.02)


def connections(server: PostgresServer, name: str) -> int:
    return int(server.sql(f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'"))


async def test_idle_and_old_connections_are_closed(postgres_url: str) -> None:
    async with started(postgres_url, idle_timeout="50ms", recycle="200ms") as manager:
        await asyncio.gather(*(manager.execute_query("SELECT pg_sleep(0.02)") for _ in range(4)))
        async with asyncio.timeout(30):
            while (await manager.get_connection_pool_status())["idle"]:
                await asyncio.sleep(0.01)
        assert await manager.check_connection()


async def test_start_and_stop_without_each_other(postgres_url: str) -> None:
    manager = PostgresDatabaseManager(postgres_settings(postgres_url))
    await manager.stop()
    assert not await manager.check_connection()


@pytest.mark.parametrize("prepared", [True, False])
async def test_statements_work_prepared_or_not(postgres_url: str, prepared: bool) -> None:
    async with started(postgres_url, prepared_statements=prepared) as manager:
        await manager.ensure_table(PEOPLE)
        for n in range(3):
            await manager.execute_transaction([insert(id=f"{n}-{m}", age=n) for m in range(3)])
            assert await manager.count(PEOPLE.name, {"age": n}) == 3


@pytest.mark.parametrize(
    "url",
    [
        "mysql://canary@host/db",
        "postgresql://u:canary/p@host/db",
        "postgresql://u:12/canary@host/db",
        "postgresql://u:12?canary@host/db",
        "postgresql://u:canary@host:port/db",
        "postgresql://u:canary#@host/db",
        "postgresql://[::1/canary",
    ],
)
def test_url_that_cannot_be_read_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ValueError, match="url") as caught:
        PostgresSettings.model_validate({"url": url})
    assert "canary" not in str(caught.value)


def test_settings_show_no_secret() -> None:
    password = quote("canary/@:", safe="")
    settings = PostgresSettings.model_validate(
        {"url": f"postgresql://u:{password}@a:1,b:2/db", "admin_url": f"postgres://u:{password}@[::1]:5/db"}
    )
    assert "canary" not in repr(settings) + str(settings) + settings.model_dump_json()


MIGRATING = """
    import asyncio, sys
    from base04_builtin.database.postgresql import PostgresDatabaseManager, PostgresSettings
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
        manager = PostgresDatabaseManager(PostgresSettings(url=sys.argv[1], pool_size=1))
        await manager.start()
        print(await manager.migrate("test", [step(number) for number in range(1, 6)]))
        await manager.stop()

    asyncio.run(main())
"""


async def test_three_processes_migrate_once(manager: DatabaseManager, postgres_url: str) -> None:
    processes = [run_python(MIGRATING, postgres_url, who) for who in "abc"]
    outputs = [(await asyncio.to_thread(process.communicate, timeout=120))[0].split()[-1] for process in processes]
    assert outputs == ["5", "5", "5"]
    assert [row["step"] for row in await manager.find("ran", order_by=["step"])] == [1, 2, 3, 4, 5]


async def test_killed_migration_is_taken_over(manager: DatabaseManager, postgres_url: str) -> None:
    process = run_python(MIGRATING, postgres_url, "killed", 3)
    assert process.stdout is not None
    while process.stdout.readline().strip() != "inside":
        assert process.poll() is None

    async def step(database: DatabaseManager) -> None:
        raise AssertionError("another process is migrating")

    async with started(postgres_url, migration_timeout="50ms") as other:
        with pytest.raises(ManagerUnavailable, match="migrating"):
            await other.migrate("test", [step, step, step])
    process.kill()
    process.communicate(timeout=60)
    output, _ = run_python(MIGRATING, postgres_url, "next").communicate(timeout=120)
    assert output.split()[-1] == "5"
    rows = [(row["step"], row["who"]) for row in await manager.find("ran", order_by=["step", "who"])]
    assert rows == [(1, "killed"), (2, "killed"), (3, "killed"), (3, "next"), (4, "next"), (5, "next")]
