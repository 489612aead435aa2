"""The provider ``mongodb`` on a real server."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pymongo import AsyncMongoClient

from base04.testing.conformance.database import ADA, PEOPLE, Another, DatabaseConformance, insert
from base04_builtin.database import database_providers
from base04_builtin.database.mongodb import MongoDatabaseManager
from base04_builtin.database.mongodb.changes import Undo
from base04_builtin.database.mongodb.settings import MongoSettings
from base04_hookspecs.database import Column, DatabaseManager, Operation, TableSchema
from base04_hookspecs.errors import ConfigurationError, Conflict, InvalidInput, NotSupported
from mongo_kit import manager_of, mongo, mongo_database, mongo_settings

PROVIDER = {provider.name: provider for provider in database_providers()}["mongodb"]
Place = tuple[str, str]
__all__ = ["mongo", "mongo_database"]


@pytest.fixture
async def manager(mongo_database: Place) -> AsyncIterator[MongoDatabaseManager]:
    async with manager_of(mongo_settings(*mongo_database)) as database:
        yield database


@pytest.fixture
async def people(manager: MongoDatabaseManager) -> MongoDatabaseManager:
    await manager.ensure_table(PEOPLE)
    return manager


class TestMongodb(DatabaseConformance):
    capabilities = PROVIDER.capabilities

    @pytest.fixture
    def another(self, mongo_database: Place) -> Another:
        return lambda: manager_of(mongo_settings(*mongo_database))


class TestMongodbReplicaSet(DatabaseConformance):
    capabilities = PROVIDER.capabilities | {"transactions"}

    @pytest.fixture
    def another(self, mongo_database: Place) -> Another:
        return lambda: manager_of(mongo_settings(*mongo_database, single_document_atomicity=False))

    @pytest.fixture
    async def manager(self, mongo_database: Place) -> AsyncIterator[MongoDatabaseManager]:
        async with manager_of(mongo_settings(*mongo_database, single_document_atomicity=False)) as database:
            if not database.supports_transactions():
                pytest.skip("This server has no transactions: name a replica set as BASE04_TEST_MONGODB_URL.")
            yield database


def test_provider_names_its_extra_and_declares_what_every_server_has() -> None:
    assert (PROVIDER.extra, PROVIDER.default) == ("mongo", False)
    assert PROVIDER.capabilities == {"shared"}


# What servers that stand alone can do


@pytest.fixture
async def strict(mongo_database: Place) -> AsyncIterator[MongoDatabaseManager]:
    """A manager that accepts no changes in part, on a server without transactions."""
    async with manager_of(mongo_settings(*mongo_database, single_document_atomicity=False)) as database:
        if database.supports_transactions():
            pytest.skip("This server has transactions.")
        await database.ensure_table(PEOPLE)
        yield database


async def test_one_row_changes_whole_on_every_server(strict: MongoDatabaseManager) -> None:
    assert await strict.execute_transaction([insert(id="a", age=1)])
    row: Operation = {"type": "update", "table": PEOPLE.name, "data": {"age": 2}, "where": {"id": "a"}, "expect": 1}
    assert await strict.execute_transaction([row])
    upsert: Operation = {"type": "upsert", "table": PEOPLE.name, "data": {"age": 3}, "where": {"id": "a"}}
    assert await strict.execute_transaction([upsert])
    with pytest.raises(Conflict):
        await strict.execute_transaction([{**row, "where": {"id": "a", "age": 2}}])
    delete: Operation = {"type": "delete", "table": PEOPLE.name, "where": {"id": "a", "age": 3}, "expect": 1}
    assert await strict.execute_transaction([delete])
    assert await strict.count(PEOPLE.name) == 0


@pytest.mark.parametrize(
    "operations",
    [
        [insert(id="a"), insert(id="b")],
        [{"type": "update", "table": PEOPLE.name, "data": {"age": 1}}],
        [{"type": "update", "table": PEOPLE.name, "data": {"age": 1}, "where": {"age": 2}, "expect": 1}],
        [{"type": "delete", "table": PEOPLE.name, "where": {"id": {"in": ["a", "b"]}}}],
        [{"type": "delete", "table": PEOPLE.name, "where": {"id": "a"}, "expect": 0}],
    ],
)
async def test_several_rows_are_refused_with_the_remedy(strict: MongoDatabaseManager, operations: Any) -> None:
    with pytest.raises(NotSupported, match=r"replica set .*single_document_atomicity: true"):
        await strict.execute_transaction(operations)
    assert await strict.count(PEOPLE.name) == 0


async def test_operations_before_one_that_fails_are_taken_back(people: MongoDatabaseManager) -> None:
    await people.execute_transaction([insert(id="a", age=1, bio="old"), insert(id="b", age=2), insert(id="c", age=3)])
    before = await people.find(PEOPLE.name, order_by=["id"])
    nobody: Operation = {"type": "delete", "table": PEOPLE.name, "where": {"id": "nobody"}, "expect": 1}
    for last in (insert(id="a"), nobody):
        with pytest.raises(Conflict):
            await people.execute_transaction(
                [
                    insert(id="d", email="d"),
                    {"type": "update", "table": PEOPLE.name, "data": {"age": 9, "bio": None, "email": "e"},
                     "where": {"id": "a"}, "expect": 1},
                    {"type": "update", "table": PEOPLE.name, "data": {"height": 1.0}, "expect": 4},
                    {"type": "delete", "table": PEOPLE.name, "where": {"age": {"lt": 3}}, "expect": 1},
                    {"type": "upsert", "table": PEOPLE.name, "data": {"age": 4}, "where": {"id": "c"}},
                    {"type": "upsert", "table": PEOPLE.name, "data": {"age": 4}, "where": {"id": "new"}},
                    last,
                ]
            )  # fmt: skip
        assert await people.find(PEOPLE.name, order_by=["id"]) == before


async def test_expected_number_of_several_rows_holds(people: MongoDatabaseManager) -> None:
    await people.execute_transaction([insert(id="a", age=1), insert(id="b", age=1)])
    change: Operation = {"type": "update", "table": PEOPLE.name, "data": {"age": 2}, "where": {"age": 1}}
    with pytest.raises(Conflict, match="should have touched 3 rows, and it touched 2"):
        await people.execute_transaction([{**change, "expect": 3}])
    with pytest.raises(Conflict, match="should have touched 0 rows"):
        await people.execute_transaction([{**change, "expect": 0}])
    assert await people.count(PEOPLE.name, {"age": 1}) == 2
    assert await people.execute_transaction([{**change, "expect": 2}])
    assert await people.count(PEOPLE.name, {"age": 2}) == 2


async def test_what_somebody_else_changed_is_not_taken_back(mongo_database: Place) -> None:
    url, name = mongo_database
    async with AsyncMongoClient[dict[str, Any]](url) as client:
        rows = client[name]["rows"]
        await rows.insert_one({"_id": "a", "n": 1, "m": 1})
        undo = Undo()
        before = await rows.find_one_and_update({"_id": "a"}, {"$set": {"n": 2}})
        assert before is not None
        undo.updated(rows, before, {"$set": {"n": 2}})
        await rows.update_one({"_id": "a"}, {"$set": {"n": 3}})
        assert await undo.run() is False
        assert await rows.find_one({"_id": "a"}) == {"_id": "a", "n": 3, "m": 1}
        undo.updated(rows, {"_id": "a", "n": 1, "m": 1}, {"$set": {"n": 3}, "$unset": {"gone": ""}})
        await rows.update_one({"_id": "a"}, {"$set": {"m": 5}})
        assert await undo.run() is True
        assert await rows.find_one({"_id": "a"}) == {"_id": "a", "n": 1, "m": 5}


async def test_two_managers_never_both_win_a_row(mongo_database: Place) -> None:
    settings = mongo_settings(*mongo_database)
    async with manager_of(settings) as one, manager_of(settings) as other:
        await one.ensure_table(PEOPLE)
        for number in range(5):
            key = f"row{number}"
            await one.execute_transaction([insert(id=key, age=0)])

            async def claim(database: DatabaseManager, key: str = key) -> bool:
                where = {"id": key, "age": 0}
                try:
                    return await database.execute_transaction(
                        [{"type": "update", "table": PEOPLE.name, "data": {"age": 1}, "where": where, "expect": 1}]
                    )
                except Conflict:
                    return False

            assert sum(await asyncio.gather(*(claim(each) for each in (one, other) for _ in range(6)))) == 1


async def test_upserts_that_race_make_one_row(mongo_database: Place) -> None:
    settings = mongo_settings(*mongo_database)
    async with manager_of(settings) as one, manager_of(settings) as other:
        await one.ensure_table(PEOPLE)
        upsert: Operation = {"type": "upsert", "table": PEOPLE.name, "data": {"age": 1}, "where": {"id": "a"}}
        await asyncio.gather(*(each.execute_transaction([upsert]) for each in (one, other) for _ in range(8)))
        assert await one.count(PEOPLE.name) == 1


# Rows and documents


async def test_unique_keys_hold_for_values_and_not_for_none(manager: MongoDatabaseManager) -> None:
    pairs = TableSchema(
        "pairs",
        (Column("id", "string"), Column("a", "string"), Column("b", "integer")),
        ("id",),
        unique=(("a", "b"),),
    )
    await manager.ensure_table(pairs)

    async def add(number: int, **data: Any) -> None:
        await manager.execute_transaction([{"type": "insert", "table": "pairs", "data": {"id": str(number), **data}}])

    await add(1, a="x", b=1)
    await add(2, a="x", b=2)
    await add(3)
    await add(4)
    with pytest.raises(Conflict):
        await add(5, a="x", b=1)
    await manager.execute_transaction(
        [{"type": "update", "table": "pairs", "data": {"a": None, "b": None}, "where": {"id": "1"}, "expect": 1}]
    )
    await add(5, a="x", b=1)
    assert await manager.count("pairs") == 5


async def test_rows_of_others_are_read_as_they_are(mongo_database: Place, manager: MongoDatabaseManager) -> None:
    url, name = mongo_database
    async with AsyncMongoClient[dict[str, Any]](url) as client:
        inserted = await client[name]["users"].insert_one({"name": "Ada", "tags": ["x", {"deep": 2**40}]})
    [row] = await manager.find("users", {"name": "Ada"})
    assert row == {"_id": str(inserted.inserted_id), "name": "Ada", "tags": ["x", {"deep": 2**40}]}
    assert type(row["tags"][1]["deep"]) is int
    assert await manager.find("users", {"_id": row["_id"]}, columns=["name"]) == [{"name": "Ada"}]
    assert await manager.find("nobody_made_this") == []


async def test_specification_example_runs_as_it_stands(manager: MongoDatabaseManager) -> None:
    operations: list[Operation] = [
        {"type": "insert", "table": "users", "data": {"name": "John"}},
        {"type": "update", "table": "sessions", "data": {"user_id": 123}},
    ]
    assert await manager.execute_transaction(operations) is True
    assert [row["name"] for row in await manager.find("users")] == ["John"]


async def test_column_named_as_the_key_of_documents_is_refused(manager: MongoDatabaseManager) -> None:
    with pytest.raises(InvalidInput, match="'_id'"):
        await manager.ensure_table(TableSchema("t", (Column("_id", "string"),), ("_id",)))


async def test_tables_that_another_process_declared_are_known(mongo_database: Place) -> None:
    settings = mongo_settings(*mongo_database)
    async with manager_of(settings) as one, manager_of(settings) as other:
        await one.ensure_table(PEOPLE)
        await one.execute_transaction([insert(**ADA)])
        assert await other.find(PEOPLE.name) == [ADA]
        wider = TableSchema(PEOPLE.name, (*PEOPLE.columns, Column("nickname", "string")), ("id",), PEOPLE.unique)
        await one.ensure_table(wider)
        assert await other.find(PEOPLE.name, {"nickname": None}, columns=["nickname"]) == [{"nickname": None}]
        with pytest.raises(ConfigurationError, match="cannot change"):
            await other.ensure_table(TableSchema(PEOPLE.name, PEOPLE.columns, ("id", "email")))


# Hostile input


@pytest.mark.parametrize(
    "where",
    [
        {"email": {"$ne": None}},
        {"email": {"$gt": ""}},
        {"email": {"$where": "1"}},
        {"email": {"eq": {"$ne": None}}},
        {"email": {"in": [{"$ne": None}]}},
        {"email": {"prefix": {"$regex": "."}}},
        {"$where": "sleep(1000)"},
        {"$or": [{}]},
        {"email.x": 1},
    ],
)
async def test_operators_of_mongodb_in_conditions_are_refused(people: MongoDatabaseManager, where: Any) -> None:
    await people.execute_transaction([insert(**ADA)])
    with pytest.raises(InvalidInput):
        await people.find(PEOPLE.name, where)
    with pytest.raises(InvalidInput):
        await people.execute_transaction([{"type": "delete", "table": PEOPLE.name, "where": where}])
    assert await people.count(PEOPLE.name) == 1


@pytest.mark.parametrize("column", ["bio", "age", "email"])
async def test_operators_of_mongodb_in_values_are_refused(people: MongoDatabaseManager, column: str) -> None:
    for value in ({"$inc": 1}, {"$ne": None}, ["$x"]):
        with pytest.raises(InvalidInput):
            await people.execute_transaction([insert(id="x", **{column: value})])
    assert await people.count(PEOPLE.name) == 0


async def test_json_may_look_like_operators_and_comes_back(people: MongoDatabaseManager) -> None:
    profile = {"$ne": None, "a.b": {"": 1, "$set": [2**60]}, "$where": "x"}
    await people.execute_transaction([insert(id="a", profile=profile)])
    assert await people.find(PEOPLE.name, columns=["profile"]) == [{"profile": profile}]


text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
pieces = st.lists(st.sampled_from(["$ne", "$", ".", "{", "}", '"', "$where", "\\", "/", ":x"]), max_size=5).map("".join)


def test_hostile_values_come_back_and_only_ever_compare(mongo_database: Place) -> None:
    loop = asyncio.new_event_loop()
    manager = MongoDatabaseManager(mongo_settings(*mongo_database))

    @hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(text, pieces))
    def example(value: str) -> None:
        loop.run_until_complete(there_and_back(value))

    async def there_and_back(value: str) -> None:
        await manager.execute_transaction(
            [{"type": "upsert", "table": PEOPLE.name, "data": {"bio": value}, "where": {"id": "a"}}]
        )
        assert await manager.find(PEOPLE.name, {"bio": value}, columns=["bio"]) == [{"bio": value}]
        assert await manager.count(PEOPLE.name, {"bio": {"prefix": value}}) == 1
        assert await manager.count(PEOPLE.name, {"bio": {"ne": value}}) == 0
        found = await manager.execute_query({"find": PEOPLE.name, "filter": {"bio": ":v"}}, {"v": value})
        assert [row["bio"] for row in found] == [value]

    try:
        loop.run_until_complete(manager.start())
        loop.run_until_complete(manager.ensure_table(PEOPLE))
        example()
    finally:
        loop.run_until_complete(manager.stop())
        loop.close()


# Commands


async def test_commands_return_rows_or_numbers(manager: MongoDatabaseManager) -> None:
    documents = [{"_id": n, "name": f"n{n}", "age": n} for n in range(5)]
    assert await manager.execute_query({"insert": "users", "documents": documents}) == 5
    assert await manager.execute_query({"find": "users", "filter": {"age": {"$gt": 2}}, "sort": {"age": 1}}) == [
        {"_id": 3, "name": "n3", "age": 3},
        {"_id": 4, "name": "n4", "age": 4},
    ]
    change = {"q": {"age": {"$lt": 2}}, "u": {"$set": {"old": False}}, "multi": True}
    assert await manager.execute_query({"update": "users", "updates": [change]}) == 2
    assert await manager.execute_query({"count": "users", "query": {"old": False}}) == 2
    pipeline = [{"$match": {"age": {"$gte": 3}}}, {"$count": "n"}]
    assert await manager.execute_query({"aggregate": "users", "pipeline": pipeline, "cursor": {}}) == [{"n": 2}]
    assert await manager.execute_query({"distinct": "users", "key": "old"}) == [{"value": False}]
    taken = {"findAndModify": "users", "query": {"_id": 0}, "remove": True}
    assert [row["name"] for row in await manager.execute_query(taken)] == ["n0"]
    assert await manager.execute_query({"delete": "users", "deletes": [{"q": {"_id": 1}, "limit": 1}]}) == 1
    assert (await manager.execute_query({"ping": 1}))[0]["ok"] == 1


async def test_long_results_are_read_to_their_end(manager: MongoDatabaseManager) -> None:
    await manager.execute_query({"insert": "many", "documents": [{"n": n} for n in range(1500)]})
    rows = await manager.execute_query({"find": "many", "sort": {"n": 1}})
    assert [row["n"] for row in rows] == list(range(1500))


async def test_parameters_are_values_and_never_documents(manager: MongoDatabaseManager) -> None:
    await manager.execute_query({"insert": "users", "documents": [{"name": "ada", "pin": "1"}, {"name": ":who"}]})
    login = {"find": "users", "filter": {"name": ":who", "pin": ":pin"}, "projection": {"_id": 0}}
    assert await manager.execute_query(login, {"who": "ada", "pin": "1"}) == [{"name": "ada", "pin": "1"}]
    for pin in ({"$ne": None}, {"$gt": ""}, [{"$ne": None}]):
        with pytest.raises(InvalidInput, match="'pin'"):
            await manager.execute_query(login, {"who": "ada", "pin": pin})
    with pytest.raises(InvalidInput, match="':pin'"):
        await manager.execute_query(login, {"who": "ada"})
    among = {"find": "users", "filter": {"name": {"$in": ":names"}}, "projection": {"_id": 0}}
    assert await manager.execute_query(among, {"names": ["ada", "bob"]}) == [{"name": "ada", "pin": "1"}]
    literal = {"count": "users", "query": {"name": ":who"}}
    assert await manager.execute_query(literal) == 1, "without parameters there are no placeholders"


@pytest.mark.parametrize(
    "query",
    [
        None,
        "find",
        {},
        {1: "users"},
        {"find": "users", "filter": {"a": "\0"}},
        {"find": "users", "filter": {"a\0": 1}},
        {"find": "users", "filter": {"a": datetime(2020, 1, 1)}},  # noqa: DTZ001 - that is the fault
        {"find": "users", "filter": {"a": math.nan}},
        {"find": "users", "filter": {"a": 2**64}},
        {"find": "users", "filter": {"a": object()}},
        {"find": "users", "filter": {"a": "\ud800"}},
        {"nonsense": 1},
        {"find": "_base04_versions"},
        {"drop": "_base04_tables"},
        {"find": "system.users"},
        {"commitTransaction": 1},
        {"find": "users", "lsid": {}},
        {"insert": "users", "documents": [{"a": "x" * 9_000_000}]},
    ],
)
async def test_command_that_is_not_valid_is_refused(manager: MongoDatabaseManager, query: Any) -> None:
    with pytest.raises(InvalidInput):
        await manager.execute_query(query)


async def test_command_that_holds_itself_is_refused(manager: MongoDatabaseManager) -> None:
    query: dict[str, Any] = {"find": "users"}
    query["filter"] = query
    with pytest.raises(InvalidInput, match="holds itself"):
        await manager.execute_query(query)


async def test_command_that_takes_a_taken_key_is_a_conflict(manager: MongoDatabaseManager) -> None:
    await manager.execute_query({"insert": "users", "documents": [{"_id": "a", "pin": "canary"}]})
    with pytest.raises(Conflict) as caught:
        await manager.execute_query({"insert": "users", "documents": [{"_id": "a", "pin": "canary"}]})
    assert "canary" not in str(caught.value)


async def test_aware_datetimes_of_commands_come_back_aware(manager: MongoDatabaseManager) -> None:
    moment = datetime(2020, 1, 1, tzinfo=UTC)
    await manager.execute_query({"insert": "events", "documents": [{"at": moment}]})
    [row] = await manager.execute_query({"find": "events", "filter": {"at": moment}})
    assert row["at"] == moment


# Access roles


async def test_read_only_without_a_user_of_its_own_sends_no_commands(people: MongoDatabaseManager) -> None:
    reader = people.with_access("read_only")
    assert await reader.count(PEOPLE.name) == 0
    with pytest.raises(NotSupported, match="read_only_url"):
        await reader.execute_query({"find": PEOPLE.name})
    with pytest.raises(NotSupported):
        reader.with_access("read_write")


async def test_read_only_user_whom_the_server_does_not_stop_is_refused(mongo_database: Place) -> None:
    settings = mongo_settings(*mongo_database, read_only_url=mongo_database[0])
    with pytest.raises(ConfigurationError, match="read_only_url"):
        async with manager_of(settings):
            pass


# Migrations


MIGRATE = """
import asyncio, structlog, sys
from base04_builtin.database.mongodb import MongoDatabaseManager
from base04_builtin.database.mongodb.settings import MongoSettings

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

async def step(database):
    await database.execute_query({"insert": "ran", "documents": [{"step": 1}]})
    await asyncio.sleep(0.1)

async def main():
    settings = MongoSettings(url=sys.argv[1], database=sys.argv[2], single_document_atomicity=True)
    manager = MongoDatabaseManager(settings)
    await manager.start()
    print("ready", flush=True)
    sys.stdin.readline()
    print(await manager.migrate("owner", [step, step]))
    await manager.stop()

asyncio.run(main())
"""


async def test_three_processes_that_start_at_once_migrate_once(
    mongo_database: Place, manager: MongoDatabaseManager
) -> None:
    def race() -> list[str]:
        command = [sys.executable, "-c", MIGRATE, *mongo_database]
        processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        return [process.communicate("go\n", timeout=120)[0] for process in processes]

    assert await asyncio.to_thread(race) == ["2\n"] * 3
    assert await manager.count("ran") == 2


async def test_lock_of_a_dead_process_is_taken_over(mongo_database: Place, manager: MongoDatabaseManager) -> None:
    url, name = mongo_database
    async with AsyncMongoClient[dict[str, Any]](url) as client:
        await client[name]["_base04_locks"].insert_one({"_id": "migrations", "owner": "dead", "beat": 3})
        async with manager_of(mongo_settings(url, name, lease="200ms")) as other:

            async def step(database: DatabaseManager) -> None: ...

            assert await other.migrate("owner", [step]) == 1
        assert await client[name]["_base04_locks"].count_documents({"_id": "migrations"}) == 0


# Settings


@pytest.mark.parametrize(
    "given",
    [{"url": "postgresql://x"}, {"database": "a.b"}, {"pool_size": 0}, {"lease": "0s"}, {"nonsense": 1}],
)
def test_settings_that_cannot_work_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        MongoSettings.model_validate({"url": "mongodb://ada:canary@host/", **given})
    assert "canary" not in str(caught.value)


def test_settings_do_not_show_passwords() -> None:
    settings = MongoSettings.model_validate({"url": "mongodb://ada:canary@host/"})
    assert "canary" not in repr(settings) + str(settings) + repr(MongoDatabaseManager(settings))


async def test_database_of_the_address_is_used(mongo: str, mongo_database: Place) -> None:
    settings = MongoSettings.model_validate({"url": f"{mongo}{mongo_database[1]}"})
    async with manager_of(settings) as manager:
        await manager.execute_query({"insert": "here", "documents": [{"n": 1}]})
    async with manager_of(mongo_settings(*mongo_database)) as manager:
        assert await manager.count("here") == 1


async def test_stop_is_safe_without_a_start() -> None:
    await MongoDatabaseManager(MongoSettings.model_validate({"url": "mongodb://127.0.0.1:1/"})).stop()
