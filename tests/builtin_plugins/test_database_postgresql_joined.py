"""Operations on PostgreSQL that go to the server as one statement."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from base04_builtin.database.postgresql import PostgresDatabaseManager
from base04_builtin.database.postgresql.joining import joined
from base04_builtin.database.requests import Step
from base04_hookspecs.database import Column, Operation, TableSchema
from base04_hookspecs.errors import Conflict, InvalidInput
from postgres_kit import postgres, postgres_url, started

__all__ = ["postgres", "postgres_url"]

KEY = Column("id", "string", nullable=False)
ACCOUNTS = TableSchema("accounts", (KEY, Column("version", "integer"), Column("data", "json")), ("id",))
ENTRIES = TableSchema("entries", (KEY, Column("at", "timestamp"), Column("text", "text")), ("id",))
NEWS = TableSchema("news", (KEY, Column("done", "boolean")), ("id",))


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[PostgresDatabaseManager]:
    async with started(postgres_url) as manager:
        for table in (ACCOUNTS, ENTRIES, NEWS):
            await manager.ensure_table(table)
        data = {"id": "ada", "version": 1, "data": {"a": 1}}
        await manager.execute_transaction([{"type": "insert", "table": "accounts", "data": data}])
        yield manager


def change(number: int, expected: int, text: str | None = "changed") -> list[Operation]:
    return [
        {"type": "insert", "table": "entries", "data": {"id": str(number), "at": 1.5, "text": text}},
        {
            "type": "update",
            "table": "accounts",
            "data": {"version": expected + 1, "data": {"n": number}},
            "where": {"id": "ada", "version": expected},
            "expect": 1,
        },
        {"type": "insert", "table": "news", "data": {"id": str(number), "done": False}},
    ]


async def contents(database: PostgresDatabaseManager) -> tuple[Any, ...]:
    [account] = await database.find("accounts")
    return account["version"], await database.count("entries"), await database.count("news")


async def test_all_of_it_is_done(database: PostgresDatabaseManager) -> None:
    assert await database.execute_transaction(change(1, 1)) is True
    assert await contents(database) == (2, 1, 1)
    assert await database.find("accounts") == [{"id": "ada", "version": 2, "data": {"n": 1}}]
    assert await database.find("entries") == [{"id": "1", "at": 1.5, "text": "changed"}]
    assert await database.find("news") == [{"id": "1", "done": False}]


async def test_row_that_is_not_there_undoes_it(database: PostgresDatabaseManager) -> None:
    with pytest.raises(Conflict, match="2 of 3 touched 0 rows where 1 were expected"):
        await database.execute_transaction(change(1, 7))
    assert await contents(database) == (1, 0, 0)


async def test_key_that_is_taken_undoes_it(database: PostgresDatabaseManager) -> None:
    await database.execute_transaction(change(1, 1))
    with pytest.raises(Conflict):
        await database.execute_transaction(change(1, 2))
    assert await contents(database) == (2, 1, 1)
    with pytest.raises(InvalidInput):
        await database.execute_transaction(change(2, 2, "a\0b"))
    assert await contents(database) == (2, 1, 1)


async def test_deletion_can_be_expected(database: PostgresDatabaseManager) -> None:
    operations: list[Operation] = [
        {"type": "delete", "table": "accounts", "where": {"id": "ada"}, "expect": 1},
        {"type": "insert", "table": "news", "data": {"id": "1", "done": True}},
    ]
    assert await database.execute_transaction(operations) is True
    with pytest.raises(Conflict):
        await database.execute_transaction([operations[0], change(2, 1)[0]])
    assert (await database.count("accounts"), await database.count("entries")) == (0, 0)


async def test_one_of_many_wins(database: PostgresDatabaseManager) -> None:
    outcomes = await asyncio.gather(
        *(database.execute_transaction(change(number, 1)) for number in range(20)), return_exceptions=True
    )
    assert outcomes.count(True) == 1
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 19
    assert await contents(database) == (2, 1, 1)


INSERT = Step("INSERT INTO a VALUES ($1)", (1,), "1 of 2", table="a")
UPDATE = Step("UPDATE b SET c = $1 WHERE d = $2", (2, 3), "2 of 2", 1, single=True, table="b")


def test_placeholders_are_counted_on() -> None:
    one = joined([INSERT, UPDATE])
    assert one is not None
    assert one.sql == (
        "WITH s0 AS (INSERT INTO a VALUES ($1)), s1 AS (UPDATE b SET c = $2 WHERE d = $3 RETURNING 1) "
        "SELECT 1 / count(*) FROM s1"
    )
    assert (one.params, one.place) == ((1, 2, 3), "2 of 2")


@pytest.mark.parametrize(
    "steps",
    [
        [INSERT],
        [INSERT, INSERT],
        [INSERT, UPDATE._replace(table="")],
        [INSERT, UPDATE._replace(expect=None)],
        [INSERT, UPDATE._replace(expect=2)],
        [INSERT, UPDATE._replace(single=False)],
        [INSERT, UPDATE._replace(otherwise=INSERT)],
        [UPDATE, UPDATE._replace(table="c")],
    ],
)
def test_what_would_not_be_the_same_stays_apart(steps: list[Step]) -> None:
    assert joined(steps) is None
