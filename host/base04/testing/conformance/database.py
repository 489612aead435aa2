"""What every provider of the role ``database`` does."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest

from base04.testing.conformance.declared import DeclaredCapabilities
from base04_hookspecs.database import Column, DatabaseManager, Operation, TableSchema
from base04_hookspecs.errors import ConfigurationError, Conflict, InvalidInput, ManagerError, NotSupported

PEOPLE = TableSchema(
    "conformance_people",
    (
        Column("id", "string", nullable=False),
        Column("email", "string"),
        Column("bio", "text"),
        Column("age", "integer"),
        Column("height", "float"),
        Column("active", "boolean"),
        Column("profile", "json"),
        Column("seen_at", "timestamp"),
        Column("photo", "bytes"),
    ),
    primary_key=("id",),
    unique=(("email",),),
    indexes=(("age",),),
)
ADA: dict[str, Any] = {
    "id": "ada",
    "email": "ada@example.org",
    "bio": "Countess, \u00e9crivain \U0001f600 100% 'quoted' \"twice\"; -- not a comment",
    "age": 36,
    "height": 1.65,
    "active": True,
    "profile": {"tags": ["a", None, 1.5, True], "deep": {"n": -(2**63)}},
    "seen_at": 1_700_000_000.25,
    "photo": b"\x00\xff",
}


def insert(**data: Any) -> Operation:
    """Return the operation that inserts a person."""
    return {"type": "insert", "table": PEOPLE.name, "data": data}


Another = Callable[[], AbstractAsyncContextManager[DatabaseManager]]
"""Starts one more manager as another process would, with the settings of the one under test."""


class DatabaseConformance(DeclaredCapabilities):
    """Subclass it, give it the fixtures ``manager`` (started, with an empty database) and ``another``, and set
    ``capabilities``.

    For a provider with ``sql`` subclass ``SqlConformance``.
    """

    known_capabilities: ClassVar[frozenset[str]] = frozenset({"sql", "transactions", "shared"})

    @pytest.fixture
    async def people(self, manager: DatabaseManager) -> DatabaseManager:
        """The manager, with an empty table of people."""
        await manager.ensure_table(PEOPLE)
        return manager

    async def ages(self, manager: DatabaseManager, where: Any = None) -> list[int | None]:
        """Return the ages of the people who match, by id."""
        return [row["age"] for row in await manager.find(PEOPLE.name, where, ["id"])]

    async def test_connection_answers(self, manager: DatabaseManager) -> None:
        assert await manager.check_connection() is True

    async def test_health_report_is_complete(self, manager: DatabaseManager) -> None:
        report = await manager.health_check()
        assert report["status"] == "healthy"
        assert {"connections", "errors", "response_time"} <= report["metrics"].keys()

    async def test_pool_status_adds_up(self, manager: DatabaseManager) -> None:
        status = await manager.get_connection_pool_status()
        assert status["in_use"] + status["idle"] <= status["size"]
        assert status["waiting"] == 0

    async def test_values_come_back_as_they_went_in(self, people: DatabaseManager) -> None:
        assert await people.execute_transaction([insert(**ADA)]) is True
        [row] = await people.find(PEOPLE.name)
        assert row == ADA
        assert {name: type(value) for name, value in row.items()} == {n: type(v) for n, v in ADA.items()}

    async def test_missing_values_are_none(self, people: DatabaseManager) -> None:
        await people.execute_transaction([insert(id="nobody")])
        [row] = await people.find(PEOPLE.name, {"id": "nobody"})
        assert row == dict.fromkeys(ADA) | {"id": "nobody"}

    async def test_aware_datetime_becomes_seconds(self, people: DatabaseManager) -> None:
        await people.execute_transaction([insert(id="a", seen_at=datetime(2020, 1, 1, tzinfo=UTC))])
        [row] = await people.find(PEOPLE.name, columns=["seen_at"])
        assert row == {"seen_at": 1577836800.0}

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("age", 2**63),
            ("age", True),
            ("age", "36"),
            ("age", 1.5),
            ("height", math.nan),
            ("height", math.inf),
            ("active", 1),
            ("bio", "a\0b"),
            ("bio", "\ud800"),
            ("bio", b"bytes"),
            ("profile", {"x": math.nan}),
            ("profile", {1: "key"}),
            ("profile", {"x": object()}),
            ("profile", ["\0"]),
            ("profile", {"x": 2**64}),
            ("seen_at", datetime(2020, 1, 1)),  # noqa: DTZ001 - that is the fault
            ("photo", "text"),
            ("id", None),
        ],
    )
    async def test_value_that_does_not_fit_is_refused(self, people: DatabaseManager, column: str, value: Any) -> None:
        with pytest.raises(InvalidInput):
            await people.execute_transaction([insert(id="before"), insert(**{"id": "x", column: value})])
        assert await people.count(PEOPLE.name) == 0

    async def test_json_that_holds_itself_is_refused(self, people: DatabaseManager) -> None:
        endless: list[Any] = []
        endless.append(endless)
        with pytest.raises(InvalidInput):
            await people.execute_transaction([insert(id="x", profile=endless)])

    async def test_required_column_must_be_given(self, people: DatabaseManager) -> None:
        with pytest.raises(InvalidInput):
            await people.execute_transaction([insert(email="nobody@example.org")])

    @pytest.mark.parametrize(
        ("where", "found"),
        [
            (None, ["a", "b", "c", "d"]),
            ({}, ["a", "b", "c", "d"]),
            ({"age": 20}, ["b"]),
            ({"age": None}, ["d"]),
            ({"age": {"eq": 20}}, ["b"]),
            ({"age": {"eq": None}}, ["d"]),
            ({"age": {"ne": None}}, ["a", "b", "c"]),
            ({"age": {"ne": 20}}, ["a", "c", "d"]),
            ({"age": {"lt": 20}}, ["a"]),
            ({"age": {"lte": 20}}, ["a", "b"]),
            ({"age": {"gt": 20}}, ["c"]),
            ({"age": {"gte": 20, "lt": 30}}, ["b"]),
            ({"age": {"in": [10, 30, 99]}}, ["a", "c"]),
            ({"age": {"in": [10, None]}}, ["a", "d"]),
            ({"age": {"in": []}}, []),
            ({"email": {"prefix": "x_"}}, ["a", "b"]),
            ({"email": {"prefix": "X"}}, ["d"]),
            ({"email": {"prefix": ""}}, ["a", "b", "c", "d"]),
            ({"email": {"prefix": "%"}}, []),
            ({"email": {"prefix": "x_"}, "age": {"gt": 10}}, ["b"]),
            ({"profile": {"ne": None}}, ["a"]),
        ],
    )
    async def test_conditions(self, people: DatabaseManager, where: Any, found: list[str]) -> None:
        await people.execute_transaction(
            [
                insert(id="a", age=10, email="x_1", profile={}),
                insert(id="b", age=20, email="x_2"),
                insert(id="c", age=30, email="xx3"),
                insert(id="d", age=None, email="X_4"),
            ]
        )
        assert [row["id"] for row in await people.find(PEOPLE.name, where, ["id"])] == found
        assert await people.count(PEOPLE.name, where) == len(found)

    @pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 1000])
    async def test_lists_of_any_length(self, people: DatabaseManager, length: int) -> None:
        await people.execute_transaction([insert(id=str(n), age=n) for n in range(10)])
        found = await self.ages(people, {"age": {"in": list(range(length))}})
        assert found == list(range(min(length, 10)))

    @pytest.mark.parametrize(
        "where",
        [
            {"nothing": 1},
            {"age": {"like": 1}},
            {"age": {}},
            {"age": {"in": 3}},
            {"age": {"lt": None}},
            {"age": [1]},
            {"age": "text"},
            {"email": {"prefix": 1}},
            {"age": {"prefix": "1"}},
            {"profile": {"eq": "x"}},
            {'id" OR 1=1 --': "x"},
            {1: 1},
            "age = 1",
            ["age"],
        ],
    )
    async def test_condition_that_means_nothing_is_refused(self, people: DatabaseManager, where: Any) -> None:
        with pytest.raises(InvalidInput):
            await people.find(PEOPLE.name, where)
        with pytest.raises(InvalidInput):
            await people.execute_transaction([{"type": "delete", "table": PEOPLE.name, "where": where}])

    async def test_order_limit_offset_and_columns(self, people: DatabaseManager) -> None:
        await people.execute_transaction([insert(id=str(n), age=n // 2) for n in range(6)])
        rows = await people.find(PEOPLE.name, None, ["-age", "id"], 3, offset=1, columns=["id"])
        assert rows == [{"id": "5"}, {"id": "2"}, {"id": "3"}]
        assert await people.find(PEOPLE.name, limit=0) == []
        assert len(await people.find(PEOPLE.name, offset=4)) == 2

    async def test_nulls_come_before_everything_else(self, people: DatabaseManager) -> None:
        await people.execute_transaction([insert(id="a", age=1), insert(id="b"), insert(id="c", age=-1)])
        rows = await people.find(PEOPLE.name, None, ["age"], columns=["age"])
        assert [row["age"] for row in rows] == [None, -1, 1]
        rows = await people.find(PEOPLE.name, None, ["-age"], columns=["age"])
        assert [row["age"] for row in rows] == [1, -1, None]

    async def test_concurrent_upserts_make_one_row(self, people: DatabaseManager) -> None:
        upserts: list[Operation] = [
            {"type": "upsert", "table": PEOPLE.name, "data": {"age": age}, "where": {"id": "a"}, "expect": 1}
            for age in range(20)
        ]
        done = await asyncio.gather(*(people.execute_transaction([upsert]) for upsert in upserts))
        assert done == [True] * 20
        assert await people.count(PEOPLE.name) == 1

    @pytest.mark.parametrize(
        "arguments",
        [
            {"order_by": ["nothing"]},
            {"order_by": "id"},
            {"order_by": ["--id"]},
            {"limit": -1},
            {"limit": True},
            {"offset": -1},
            {"columns": []},
            {"columns": ["id; DROP TABLE conformance_people"]},
        ],
    )
    async def test_find_refuses_what_means_nothing(self, people: DatabaseManager, arguments: dict[str, Any]) -> None:
        with pytest.raises(InvalidInput):
            await people.find(PEOPLE.name, **arguments)

    async def test_update_touches_matching_rows(self, people: DatabaseManager) -> None:
        await people.execute_transaction([insert(id="a", age=1), insert(id="b", age=2)])
        await people.execute_transaction(
            [{"type": "update", "table": PEOPLE.name, "data": {"age": 9}, "where": {"id": "a"}, "expect": 1}]
        )
        assert await self.ages(people) == [9, 2]

    async def test_update_without_where_touches_every_row(self, people: DatabaseManager) -> None:
        await people.execute_transaction([insert(id="a", age=1), insert(id="b", age=2)])
        await people.execute_transaction([{"type": "update", "table": PEOPLE.name, "data": {"age": 9}, "expect": 2}])
        assert await self.ages(people) == [9, 9]

    @pytest.mark.parametrize("where", [None, {}])
    @pytest.mark.parametrize("kind", ["update", "delete", "upsert"])
    async def test_empty_where_is_refused(self, people: DatabaseManager, kind: Any, where: Any) -> None:
        await people.execute_transaction([insert(id="a", age=1)])
        operation: Operation = {"type": kind, "table": PEOPLE.name, "where": where}
        if kind != "delete":
            operation["data"] = {"age": 9}
        with pytest.raises(InvalidInput):
            await people.execute_transaction([operation])
        assert await self.ages(people) == [1]

    @pytest.mark.parametrize(
        "operation",
        [
            {"type": "drop", "table": PEOPLE.name},
            {"type": ["insert"], "table": PEOPLE.name, "data": {"id": "x"}},
            {"type": "insert", "table": "people; --", "data": {"id": "x"}},
            {"type": "insert", "table": None, "data": {"id": "x"}},
            {"type": "insert", "table": PEOPLE.name},
            {"type": "insert", "table": PEOPLE.name, "data": {}},
            {"type": "insert", "table": PEOPLE.name, "data": {"id": "x", "nothing": 1}},
            {"type": "insert", "table": PEOPLE.name, "data": {"id": "x"}, "where": {"id": "x"}},
            {"type": "insert", "table": PEOPLE.name, "data": {"id": "x"}, "expect": -1},
            {"type": "delete", "table": PEOPLE.name},
            {"type": "delete", "table": PEOPLE.name, "where": {"id": "x"}, "data": {"id": "x"}},
            {"type": "upsert", "table": PEOPLE.name, "data": {"age": 1}, "where": {"age": 1}},
            {"type": "upsert", "table": PEOPLE.name, "data": {"age": 1}, "where": {"bio": "no key"}},
            {"type": "upsert", "table": PEOPLE.name, "data": {"age": 1}, "where": {"id": {"gt": "a"}}},
            {"type": "upsert", "table": PEOPLE.name, "data": {"age": 1}, "where": {"email": None}},
            {"type": "insert", "table": PEOPLE.name, "data": {"id": "x"}, "extra": 1},
            "insert",
            None,
        ],
    )
    async def test_operation_that_means_nothing_is_refused(self, people: DatabaseManager, operation: Any) -> None:
        with pytest.raises(InvalidInput):
            await people.execute_transaction([insert(id="first"), operation])
        assert await people.count(PEOPLE.name) == 0

    @pytest.mark.parametrize("operations", [[], "insert", {"type": "insert"}, None])
    async def test_operations_must_be_a_list(self, people: DatabaseManager, operations: Any) -> None:
        with pytest.raises(InvalidInput):
            await people.execute_transaction(operations)

    async def test_delete_touches_matching_rows(self, people: DatabaseManager) -> None:
        await people.execute_transaction([insert(id="a", age=1), insert(id="b", age=2)])
        await people.execute_transaction([{"type": "delete", "table": PEOPLE.name, "where": {"age": {"gt": 1}}}])
        assert await self.ages(people) == [1]

    async def test_upsert_inserts_then_updates(self, people: DatabaseManager) -> None:
        for age in (1, 2):
            await people.execute_transaction(
                [{"type": "upsert", "table": PEOPLE.name, "data": {"age": age}, "where": {"id": "a"}, "expect": 1}]
            )
            assert await self.ages(people) == [age]

    async def test_upsert_leaves_other_columns(self, people: DatabaseManager) -> None:
        await people.execute_transaction([insert(**ADA)])
        await people.execute_transaction(
            [{"type": "upsert", "table": PEOPLE.name, "data": {"age": 1}, "where": {"email": ADA["email"]}}]
        )
        assert await people.find(PEOPLE.name) == [ADA | {"age": 1}]

    async def test_upsert_of_a_new_row_needs_its_required_columns(self, people: DatabaseManager) -> None:
        with pytest.raises(InvalidInput):
            await people.execute_transaction(
                [{"type": "upsert", "table": PEOPLE.name, "data": {"age": 1}, "where": {"email": "new"}}]
            )
        assert await people.count(PEOPLE.name) == 0

    async def test_upsert_without_data_inserts_where_absent(self, people: DatabaseManager) -> None:
        await people.execute_transaction([insert(id="a", age=1)])
        for key in ("a", "b"):
            await people.execute_transaction(
                [{"type": "upsert", "table": PEOPLE.name, "data": {}, "where": {"id": key}}]
            )
        assert await self.ages(people) == [1, None]

    async def test_taken_key_is_a_conflict(self, people: DatabaseManager) -> None:
        await people.execute_transaction([insert(id="a", email="e")])
        for again in (insert(id="a"), insert(id="b", email="e")):
            with pytest.raises(Conflict):
                await people.execute_transaction([again])
        assert await people.count(PEOPLE.name) == 1

    async def test_unmet_expectation_is_a_conflict(self, people: DatabaseManager) -> None:
        await people.execute_transaction([insert(id="a", age=1)])
        with pytest.raises(Conflict):
            await people.execute_transaction(
                [{"type": "update", "table": PEOPLE.name, "data": {"age": 2}, "where": {"id": "b"}, "expect": 1}]
            )
        assert await self.ages(people) == [1]

    async def test_sql_is_there_if_declared(self, manager: DatabaseManager) -> None:
        declared = "sql" in self.capabilities
        assert isinstance(self, SqlConformance) is declared, "SqlConformance is for providers that declare sql."
        if declared:
            assert await manager.execute_query("SELECT 1 AS one") == [{"one": 1}]
        else:
            with pytest.raises((InvalidInput, NotSupported)):
                await manager.execute_query("SELECT 1 AS one")

    async def test_rows_change_together_if_declared(self, manager: DatabaseManager) -> None:
        assert manager.supports_transactions() is ("transactions" in self.capabilities)

    async def test_processes_see_the_same_rows_if_declared(self, people: DatabaseManager, another: Another) -> None:
        await people.execute_transaction([insert(id="a", age=1)])
        async with another() as other:
            try:
                seen = await self.ages(other)
            except ManagerError:  # it has not even the table
                seen = []
        assert (seen == [1]) is ("shared" in self.capabilities)

    async def test_conflict_undoes_everything(self, people: DatabaseManager) -> None:
        if "transactions" not in self.capabilities:
            pytest.skip("The provider does not declare transactions.")
        await people.execute_transaction([insert(id="a", age=1)])
        with pytest.raises(Conflict):
            await people.execute_transaction(
                [
                    insert(id="b"),
                    {"type": "update", "table": PEOPLE.name, "data": {"age": 2}},
                    {"type": "delete", "table": PEOPLE.name, "where": {"id": "nobody"}, "expect": 1},
                ]
            )
        assert await self.ages(people) == [1]

    async def test_versions_let_one_writer_win(self, people: DatabaseManager) -> None:
        await people.execute_transaction([insert(id="a", age=0)])

        async def change(bio: str) -> bool:
            try:
                return await people.execute_transaction(
                    [
                        {
                            "type": "update",
                            "table": PEOPLE.name,
                            "data": {"age": 1, "bio": bio},
                            "where": {"id": "a", "age": 0},
                            "expect": 1,
                        }
                    ]
                )
            except Conflict:
                return False

        outcomes = await asyncio.gather(*(change(str(n)) for n in range(20)))
        assert outcomes.count(True) == 1
        [row] = await people.find(PEOPLE.name, columns=["bio"])
        assert row["bio"] == str(outcomes.index(True))

    async def test_ensure_table_can_be_repeated_and_adds_columns(self, people: DatabaseManager) -> None:
        await people.execute_transaction([insert(id="a", age=1)])
        await people.ensure_table(PEOPLE)
        wider = TableSchema(PEOPLE.name, (*PEOPLE.columns, Column("nickname", "string")), ("id",), PEOPLE.unique)
        await people.ensure_table(wider)
        await people.execute_transaction([insert(id="b", nickname="bee")])
        rows = await people.find(PEOPLE.name, order_by=["id"], columns=["id", "nickname"])
        assert rows == [{"id": "a", "nickname": None}, {"id": "b", "nickname": "bee"}]

    @pytest.mark.parametrize(
        "table",
        [
            TableSchema("bad name", (Column("id", "string"),), ("id",)),
            TableSchema("t", (Column('id"', "string"),), ('id"',)),
            TableSchema("t", (Column("id", "varchar"),), ("id",)),  # type: ignore[arg-type]  # that is the fault
            TableSchema("t", (Column("id", "string"),), ()),
            TableSchema("t", (Column("id", "string"),), ("other",)),
            TableSchema("t", (Column("id", "string"), Column("ID", "string")), ("id",)),
            TableSchema("t", (Column("id", "string"),), ("id",), indexes=(("other",),)),
        ],
    )
    async def test_table_that_cannot_be_is_refused(self, manager: DatabaseManager, table: TableSchema) -> None:
        with pytest.raises(InvalidInput):
            await manager.ensure_table(table)

    async def test_migrations_run_once_and_in_order(self, manager: DatabaseManager) -> None:
        ran: list[int] = []

        def step(number: int) -> Any:
            async def migrate(database: DatabaseManager) -> None:
                ran.append(number)
                await database.ensure_table(PEOPLE)

            return migrate

        assert await manager.migrate("conformance", []) == 0
        assert await manager.migrate("conformance", [step(1), step(2)]) == 2
        assert await manager.migrate("conformance", [step(1), step(2), step(3)]) == 3
        assert await manager.migrate("other", [step(4)]) == 1
        assert ran == [1, 2, 3, 4]

    async def test_failed_migration_is_repeated(self, manager: DatabaseManager) -> None:
        ran: list[str] = []

        async def good(database: DatabaseManager) -> None:
            ran.append("good")

        async def bad(database: DatabaseManager) -> None:
            ran.append("bad")
            if ran.count("bad") == 1:
                raise RuntimeError("the first time")

        with pytest.raises(RuntimeError, match="the first time"):
            await manager.migrate("conformance", [good, bad])
        assert await manager.migrate("conformance", [good, bad]) == 2
        assert ran == ["good", "bad", "bad"]

    async def test_newer_stored_version_is_refused(self, manager: DatabaseManager) -> None:
        async def nothing(database: DatabaseManager) -> None: ...

        await manager.migrate("conformance", [nothing, nothing])
        with pytest.raises(ConfigurationError, match="conformance"):
            await manager.migrate("conformance", [nothing])

    async def test_concurrent_migrations_run_once(self, manager: DatabaseManager) -> None:
        ran: list[int] = []

        async def step(database: DatabaseManager) -> None:
            ran.append(1)
            await database.ensure_table(PEOPLE)

        assert await asyncio.gather(*(manager.migrate("conformance", [step]) for _ in range(5))) == [1] * 5
        assert ran == [1]

    async def test_read_only_reads_and_never_writes(self, people: DatabaseManager) -> None:
        await people.execute_transaction([insert(id="a", age=1)])
        reader = people.with_access("read_only")
        assert await self.ages(reader) == [1]
        assert await reader.count(PEOPLE.name) == 1
        with pytest.raises(NotSupported):
            await reader.execute_transaction([insert(id="b")])
        with pytest.raises(NotSupported):
            await reader.ensure_table(PEOPLE)
        with pytest.raises(NotSupported):
            await reader.migrate("conformance", [])
        assert await people.count(PEOPLE.name) == 1

    @pytest.mark.parametrize("access", ["read_write", "admin"])
    async def test_wider_access_writes(self, people: DatabaseManager, access: Any) -> None:
        await people.with_access(access).execute_transaction([insert(id="a", age=1)])
        assert await self.ages(people) == [1]

    async def test_unknown_access_is_refused(self, manager: DatabaseManager) -> None:
        with pytest.raises(InvalidInput):
            manager.with_access("root")  # type: ignore[arg-type]  # that is the fault


class SqlConformance(DatabaseConformance):
    """For providers with the capability ``sql``."""

    @pytest.mark.parametrize(
        ("query", "params"),
        [
            ("SELECT id FROM conformance_people WHERE age = :age AND bio = :bio", {"bio": "%s", "age": 1, "more": 0}),
            ("SELECT id FROM conformance_people WHERE age = %(age)s AND bio = %(bio)s", {"bio": "%s", "age": 1}),
            ("SELECT id FROM conformance_people WHERE age = %s AND bio = %s", {"first": 1, "second": "%s"}),
            ("SELECT id FROM conformance_people WHERE bio = '%s' AND age = :age -- :no %s", {"age": 1}),
            ("SELECT id FROM conformance_people /* %s ' :no */ WHERE age %% 2 = 1 AND bio = :bio;", {"bio": "%s"}),
        ],
    )
    async def test_placeholders(self, people: DatabaseManager, query: str, params: dict[str, Any]) -> None:
        await people.execute_transaction([insert(id="a", age=1, bio="%s"), insert(id="b", age=2, bio="other")])
        assert await people.execute_query(query, params) == [{"id": "a"}]

    @pytest.mark.parametrize(
        ("query", "params"),
        [
            ("SELECT :a", None),
            ("SELECT :a", {"b": 1}),
            ("SELECT %s, %s", {"a": 1}),
            ("SELECT %s", {"a": 1, "b": 2}),
            ("SELECT %s, :a", {"a": 1}),
            ("SELECT 1; SELECT 2", None),
            ("SELEC 1", None),
            ("SELECT * FROM there_is_none", None),
            ("", None),
            (" -- nothing", None),
            (b"SELECT 1", None),
            (None, None),
            ("SELECT :a", {"a": object()}),
            ("SELECT :a", {"a": math.nan}),
            ("SELECT :a", {"a": "\0"}),
            ("SELECT :a", {"a": datetime(2020, 1, 1)}),  # noqa: DTZ001 - that is the fault
        ],
    )
    async def test_query_that_is_not_valid_is_refused(self, manager: DatabaseManager, query: Any, params: Any) -> None:
        with pytest.raises(InvalidInput):
            await manager.execute_query(query, params)

    async def test_query_returns_rows_or_a_number(self, people: DatabaseManager) -> None:
        statement = "INSERT INTO conformance_people (id, age) VALUES (%s, %s)"
        assert await people.execute_query(statement, {"id": "a", "age": 1}) == 1
        assert await people.execute_query(statement, {"id": "b", "age": 1}) == 1
        assert await people.execute_query("UPDATE conformance_people SET age = 3") == 2
        assert await people.execute_query("SELECT id, age FROM conformance_people ORDER BY id") == [
            {"id": "a", "age": 3},
            {"id": "b", "age": 3},
        ]
        assert await people.execute_query("DELETE FROM conformance_people WHERE id = 'x'") == 0
        assert await people.execute_query("DELETE FROM conformance_people RETURNING age") == [{"age": 3}, {"age": 3}]
        assert await people.count(PEOPLE.name) == 0

    async def test_query_that_violates_a_key_is_a_conflict(self, people: DatabaseManager) -> None:
        await people.execute_query("INSERT INTO conformance_people (id) VALUES ('a')")
        with pytest.raises(Conflict):
            await people.execute_query("INSERT INTO conformance_people (id) VALUES ('a')")

    @pytest.mark.parametrize(
        "query",
        [
            "INSERT INTO conformance_people (id) VALUES ('x')",
            "WITH new AS (SELECT 'x' AS id) INSERT INTO conformance_people (id) SELECT id FROM new",
            "UPDATE conformance_people SET age = 2",
            "DELETE FROM conformance_people RETURNING id",
            "DROP TABLE conformance_people",
            "CREATE TABLE other (id INTEGER)",
        ],
    )
    async def test_read_only_refuses_statements_that_write(self, people: DatabaseManager, query: str) -> None:
        await people.execute_transaction([insert(id="a", age=1)])
        reader = people.with_access("read_only")
        with pytest.raises(NotSupported):
            await reader.execute_query(query)
        assert await self.ages(people) == [1]

    @pytest.mark.parametrize("query", ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s"])
    async def test_no_statement_opens_or_ends_a_transaction(self, people: DatabaseManager, query: str) -> None:
        with pytest.raises(InvalidInput):
            await people.execute_query(query)
        await people.execute_transaction([insert(id="a", age=1)])
        assert await self.ages(people) == [1]

    async def test_portable_core_works_on_tables_made_with_sql(self, manager: DatabaseManager) -> None:
        await manager.execute_query("CREATE TABLE users (name TEXT, active INTEGER)")
        await manager.execute_query("CREATE TABLE sessions (user_id INTEGER)")
        await manager.execute_query("INSERT INTO sessions VALUES (1)")
        assert await manager.execute_transaction(
            [
                {"type": "insert", "table": "users", "data": {"name": "John"}},
                {"type": "update", "table": "sessions", "data": {"user_id": 123}},
            ]
        )
        assert await manager.find("users") == [{"name": "John", "active": None}]
        assert await manager.execute_query("SELECT * FROM sessions WHERE user_id = %s", {"id": 123}) == [
            {"user_id": 123}
        ]
        with pytest.raises(InvalidInput):
            await manager.find("users", {"nothing": 1})


__all__ = ["DatabaseConformance", "SqlConformance"]
