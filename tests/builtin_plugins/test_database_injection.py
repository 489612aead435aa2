"""Hostile names and values through every door of the portable core."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from base04_builtin.database.conditions import OPERATORS, after_prefix
from base04_builtin.database.dialects import POSTGRESQL, SQLITE, Dialect
from base04_builtin.database.placeholders import translate
from base04_builtin.database.postgresql import PostgresDatabaseManager
from base04_builtin.database.sqlite import SqliteDatabaseManager, SqliteSettings
from base04_hookspecs.database import Column, DatabaseManager, TableSchema
from base04_hookspecs.errors import InvalidInput
from postgres_kit import empty_database, postgres, postgres_settings

__all__ = ["postgres"]

TABLE = TableSchema("vault", (Column("id", "string"), Column("secret", "string"), Column("n", "integer")), ("id",))
SECRET = {"id": "a", "secret": "kept", "n": 1}

PIECES = [
    '"',
    "'",
    "`",
    "]",
    ";",
    "--",
    "/*",
    "*/",
    " OR 1=1",
    "\0",
    "%s",
    ":x",
    "?",
    "vault",
    "id",
    "secret",
    ")",
    "(",
    ",",
]
hostile = st.one_of(st.text(max_size=30), st.lists(st.sampled_from(PIECES), max_size=6).map("".join))
text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


class Runner:
    """Runs hypothesis' synchronous examples against one database on one loop."""

    def __init__(self, manager: DatabaseManager) -> None:
        self.loop = asyncio.new_event_loop()
        self.manager = manager
        self.run(self.manager.start())
        self.run(self.manager.ensure_table(TABLE))
        self.run(self.manager.execute_transaction([{"type": "insert", "table": "vault", "data": SECRET}]))

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    def refused_or(self, awaitable: Any) -> Any:
        try:
            return self.run(awaitable)
        except InvalidInput:
            return None

    def unharmed(self) -> bool:
        return bool(self.run(self.manager.find("vault")) == [SECRET])


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("injection") / "base04.sqlite3"
        yield from running(SqliteDatabaseManager(SqliteSettings(path=path, synchronous="NORMAL")))
    else:
        with empty_database(request.getfixturevalue("postgres")) as url:
            yield from running(PostgresDatabaseManager(postgres_settings(url)))


def running(manager: DatabaseManager) -> Iterator[Runner]:
    runner = Runner(manager)
    yield runner
    runner.run(runner.manager.stop())
    runner.run(runner.loop.shutdown_default_executor())
    runner.loop.close()


examples = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@examples
@given(name=hostile)
def test_hostile_table_names(runner: Runner, name: str) -> None:
    if name == "vault":
        return
    manager = runner.manager
    for call in (manager.find(name), manager.count(name)):
        with pytest.raises(InvalidInput):
            runner.run(call)
    kinds: list[Literal["update", "delete", "upsert"]] = ["update", "delete", "upsert"]
    for kind in kinds:
        with pytest.raises(InvalidInput):
            runner.run(
                manager.execute_transaction([{"type": kind, "table": name, "data": {"n": 2}, "where": {"id": "a"}}])
            )
    assert runner.unharmed()


@examples
@given(name=hostile)
def test_hostile_column_names(runner: Runner, name: str) -> None:
    if name in SECRET:
        return
    manager = runner.manager
    for call in (
        manager.find("vault", {name: "a"}),
        manager.find("vault", order_by=[name]),
        manager.find("vault", order_by=[f"-{name}"]),
        manager.find("vault", columns=[name]),
        manager.count("vault", {name: {"ne": "a"}}),
        manager.execute_transaction([{"type": "insert", "table": "vault", "data": {"id": "b", name: 1}}]),
        manager.execute_transaction([{"type": "update", "table": "vault", "data": {name: 1}}]),
        manager.execute_transaction([{"type": "delete", "table": "vault", "where": {name: {"ne": "x"}}}]),
        manager.execute_transaction([{"type": "upsert", "table": "vault", "where": {name: "a"}, "data": {"n": 2}}]),
        manager.ensure_table(TableSchema("other", (Column("id", "string"), Column(name + '"', "string")), ("id",))),
    ):
        with pytest.raises(InvalidInput):
            runner.run(call)
    assert runner.unharmed()


@examples
@given(operator=hostile, value=st.one_of(hostile, st.integers(), st.none(), st.lists(hostile, max_size=3)))
def test_hostile_operators(runner: Runner, operator: str, value: Any) -> None:
    if operator in OPERATORS:
        return
    for where in ({"secret": {operator: value}}, {"secret": {"eq": "kept", operator: value}}):
        with pytest.raises(InvalidInput):
            runner.run(runner.manager.find("vault", where))


@examples
@given(
    value=st.one_of(hostile, st.integers(), st.floats(), st.binary(max_size=5), st.booleans()),
    operator=st.sampled_from(OPERATORS),
)
def test_hostile_values_only_ever_compare(runner: Runner, value: Any, operator: str) -> None:
    operand = [value] if operator == "in" else value
    found = runner.refused_or(runner.manager.find("vault", {"secret": {operator: operand}}))
    if not isinstance(value, str) or "\0" in value or (not value.isprintable() and not encodable(value)):
        assert not found
        return
    expected = {
        "eq": value == "kept",
        "in": value == "kept",
        "ne": value != "kept",
        "lt": value > "kept",
        "lte": value >= "kept",
        "gt": value < "kept",
        "gte": value <= "kept",
        "prefix": "kept".startswith(value),
    }
    assert found == ([SECRET] if expected[operator] else [])


def encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


@examples
@given(value=text)
def test_hostile_values_come_back_unchanged(runner: Runner, value: str) -> None:
    manager = runner.manager
    runner.run(
        manager.execute_transaction(
            [{"type": "upsert", "table": "vault", "where": {"id": "b"}, "data": {"secret": value}}]
        )
    )
    for query in ("SELECT secret FROM vault WHERE secret = :v", "SELECT secret FROM vault WHERE secret = %(v)s"):
        assert {"secret": value} in runner.run(manager.execute_query(query, {"v": value}))
    [row] = runner.run(manager.find("vault", {"id": "b"}))
    assert row["secret"] == value
    runner.run(manager.execute_transaction([{"type": "delete", "table": "vault", "where": {"id": "b"}}]))
    assert runner.unharmed()


@examples
@given(
    literal=text, before=st.sampled_from(["", "%s ", ":a ", "/* :x */ "]), dialect=st.sampled_from([SQLITE, POSTGRESQL])
)
def test_string_literals_hold_no_placeholder(literal: str, before: str, dialect: Dialect) -> None:
    quoted = "'" + literal.replace("'", "''") + "'"
    translated = translate(f"SELECT {before}{quoted}", dialect)
    assert translated.sql.endswith(quoted)
    assert translated.count == (1 if before in ("%s ", ":a ") else 0)


@given(prefix=text, string=text)
def test_prefix_is_a_range(prefix: str, string: str) -> None:
    following = after_prefix(prefix)
    assert (string >= prefix and (following is None or string < following)) == string.startswith(prefix)


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[SqliteDatabaseManager]:
    database = SqliteDatabaseManager(SqliteSettings(path=tmp_path / "base04.sqlite3"))
    await database.start()
    yield database
    await database.stop()


async def test_unknown_column_of_an_undeclared_table_is_no_string(manager: SqliteDatabaseManager) -> None:
    """SQLite takes a quoted name that it does not know for a string, so names are always qualified."""
    await manager.execute_query("CREATE TABLE plain (a)")
    await manager.execute_query("INSERT INTO plain VALUES (1)")
    with pytest.raises(InvalidInput):
        await manager.find("plain", {"nothing": "nothing"})
    with pytest.raises(InvalidInput):
        await manager.find("plain", order_by=["nothing"])
    with pytest.raises(InvalidInput):
        await manager.execute_transaction([{"type": "delete", "table": "plain", "where": {"nothing": "nothing"}}])
    assert await manager.count("plain") == 1
