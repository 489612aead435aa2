"""The provider ``postgresql`` while servers, connections and callers go away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from base04.testing.certificates import ThrowawayCA
from base04.testing.conformance.database import PEOPLE, insert
from base04.testing.proxy import FaultyProxy
from base04.testing.servers.postgres import PostgresServer
from base04_builtin.database.postgresql import PostgresDatabaseManager
from base04_builtin.database.postgresql.driver import Connection, connect
from base04_hookspecs.database import DatabaseManager, Operation
from base04_hookspecs.errors import (
    Base04Error,
    ConfigurationError,
    Conflict,
    InvalidInput,
    ManagerUnavailable,
    OutcomeUnknown,
)
from postgres_kit import postgres, postgres_settings, postgres_url, started

__all__ = ["postgres", "postgres_url"]

GENEROUS_S = 60.0
QUICK: dict[str, Any] = {"connect_timeout": 1.0, "statement_timeout": 1.0, "pool_timeout": 5.0}


@pytest.fixture
def fragile() -> Iterator[PostgresServer]:
    """A server of the test's own, to be killed and paused."""
    with PostgresServer(fsync=True) as server:
        yield server


@pytest.fixture
async def proxied(postgres: PostgresServer, postgres_url: str) -> AsyncIterator[tuple[FaultyProxy, str]]:
    """A proxy before the server, and the URL that goes through it."""
    async with FaultyProxy((postgres.host, postgres.port)) as proxy:
        yield proxy, postgres_url.replace(f":{postgres.port}/", f":{proxy.port}/")


async def settled(manager: DatabaseManager) -> None:
    async with asyncio.timeout(GENEROUS_S):
        while (status := await manager.get_connection_pool_status())["in_use"] or status["waiting"]:
            await asyncio.sleep(0.01)


async def recovered(manager: DatabaseManager) -> None:
    async with asyncio.timeout(GENEROUS_S):
        while not await manager.check_connection():
            await asyncio.sleep(0.05)


def ages(**ages: int) -> list[Operation]:
    """Return the operations that give people their ages, in this order."""
    return [
        {"type": "update", "table": PEOPLE.name, "data": {"age": age}, "where": {"id": name}}
        for name, age in ages.items()
    ]


async def test_thousand_cancelled_queries_leak_nothing(postgres: PostgresServer, postgres_url: str) -> None:
    async with started(postgres_url, application_name="cancelled", pool_size=5) as manager:
        queries = [asyncio.create_task(manager.execute_query("SELECT pg_sleep(600)")) for _ in range(1000)]
        async with asyncio.timeout(GENEROUS_S):
            while active(postgres, "cancelled") < 5:
                await asyncio.sleep(0.02)
        for query in queries:
            query.cancel()
        outcomes = await asyncio.gather(*queries, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
        await settled(manager)
        assert active(postgres, "cancelled") == 0
        there = postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cancelled'")
        status = await manager.get_connection_pool_status()
        assert (status["in_use"], status["waiting"], int(there)) == (0, 0, status["idle"])
        assert status["idle"] <= 5
        assert await manager.execute_query("SELECT 1 AS one") == [{"one": 1}]


def active(server: PostgresServer, name: str) -> int:
    where = f"application_name = '{name}' AND state = 'active'"
    return int(server.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {where}"))


async def test_cancelled_writes_are_done_or_not_begun(postgres_url: str) -> None:
    async with started(postgres_url) as manager:
        await manager.ensure_table(PEOPLE)
        writes = [
            asyncio.create_task(
                manager.execute_transaction([insert(id=f"{n}-a"), *ages(nobody=1), insert(id=f"{n}-b")])
            )
            for n in range(200)
        ]
        await asyncio.wait(writes[:20], return_when=asyncio.FIRST_COMPLETED)
        for write in writes:
            write.cancel()
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        await settled(manager)
        stored = {row["id"] for row in await manager.find(PEOPLE.name)}
        for n, outcome in enumerate(outcomes):
            assert (f"{n}-a" in stored) == (f"{n}-b" in stored)
            assert outcome is not True or f"{n}-a" in stored
        assert await manager.execute_transaction([insert(id="last")]) is True


async def test_killed_server_loses_nothing_that_it_acknowledged(fragile: PostgresServer) -> None:
    async with started(fragile.url, **QUICK) as manager:
        await manager.ensure_table(PEOPLE)
        acknowledged: set[str] = set()
        failures: list[BaseException] = []
        stop = asyncio.Event()

        async def write(writer: int) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                name = f"{writer}-{number}"
                try:
                    await manager.execute_transaction([insert(id=name), insert(id=f"{name}-too", age=number)])
                    acknowledged.add(name)
                except Base04Error as error:
                    failures.append(error)
                    await asyncio.sleep(0.01)

        writers = [asyncio.create_task(write(number)) for number in range(8)]
        for _ in range(2):
            await grown(acknowledged)
            await asyncio.to_thread(fragile.kill)
            await grown(failures)
            report = await manager.health_check()
            assert report["status"] == "unhealthy"
            await asyncio.to_thread(fragile.start)
            await recovered(manager)
        await grown(acknowledged)
        stop.set()
        async with asyncio.timeout(GENEROUS_S):
            await asyncio.gather(*writers)
        assert {type(failure) for failure in failures} <= {ManagerUnavailable, OutcomeUnknown}
        assert any(isinstance(failure, ManagerUnavailable) for failure in failures)
        stored = {row["id"] for row in await manager.find(PEOPLE.name)}
        assert acknowledged | {f"{name}-too" for name in acknowledged} <= stored
        assert len([name for name in stored if name.endswith("-too")]) * 2 == len(stored)
        assert (await manager.health_check())["status"] == "healthy"
        assert fragile.password not in "".join(map(str, failures))


async def grown(things: Any, by: int = 30) -> None:
    goal = len(things) + by
    async with asyncio.timeout(GENEROUS_S):
        while len(things) < goal:
            await asyncio.sleep(0.01)


async def test_nothing_hangs_on_a_paused_server(fragile: PostgresServer) -> None:
    async with started(fragile.url, **QUICK, ping_after=0) as manager:
        await manager.ensure_table(PEOPLE)
        await asyncio.gather(*(manager.execute_query("SELECT pg_sleep(0.05)") for _ in range(4)))
        fragile.pause()
        try:
            async with asyncio.timeout(GENEROUS_S):
                outcomes = await asyncio.gather(
                    manager.find(PEOPLE.name),
                    manager.execute_transaction([insert(id="a")]),
                    manager.execute_transaction([insert(id="b"), *ages(b=1)]),
                    manager.execute_query("SELECT 1"),
                    manager.ensure_table(PEOPLE),
                    manager.with_access("read_only").find(PEOPLE.name),
                    *(manager.count(PEOPLE.name) for _ in range(10)),
                    return_exceptions=True,
                )
                assert not await manager.check_connection()
        finally:
            fragile.resume()
        assert {type(outcome) for outcome in outcomes} <= {ManagerUnavailable, OutcomeUnknown}
        await recovered(manager)
        assert await manager.execute_transaction([insert(id="c")])


async def test_statement_under_way_is_given_up_when_the_server_falls_silent(fragile: PostgresServer) -> None:
    async with started(fragile.url, **QUICK) as manager:
        query = asyncio.create_task(manager.execute_query("SELECT pg_sleep(600)"))
        async with asyncio.timeout(GENEROUS_S):
            while active(fragile, "base04") < 1:
                await asyncio.sleep(0.02)
        fragile.pause()
        try:
            async with asyncio.timeout(GENEROUS_S):
                with pytest.raises(ManagerUnavailable):
                    await query
        finally:
            fragile.resume()
        await recovered(manager)


async def test_slow_statement_is_cancelled_by_the_server(postgres: PostgresServer, postgres_url: str) -> None:
    async with started(postgres_url, statement_timeout="100ms", application_name="slow") as manager:
        with pytest.raises(ManagerUnavailable, match="statement_timeout"):
            await manager.execute_query("SELECT pg_sleep(600)")
        await settled(manager)
        assert active(postgres, "slow") == 0
        assert await manager.check_connection()


async def test_exhausted_pool_waits_and_then_says_so(postgres_url: str) -> None:
    async with started(postgres_url, pool_size=1, pool_timeout="100ms") as manager:
        long = asyncio.create_task(manager.execute_query("SELECT pg_sleep(600)"))
        async with asyncio.timeout(GENEROUS_S):
            while (await manager.get_connection_pool_status())["in_use"] == 0:
                await asyncio.sleep(0)
        with pytest.raises(ManagerUnavailable, match="became free"):
            await manager.execute_query("SELECT 1")
        long.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await long
        await settled(manager)
        assert await manager.execute_query("SELECT 1 AS one") == [{"one": 1}]


async def test_lost_answer_to_a_commit_is_an_unknown_outcome(proxied: tuple[FaultyProxy, str]) -> None:
    proxy, url = proxied
    async with started(url) as manager:
        await manager.ensure_table(PEOPLE)
        await manager.execute_transaction([insert(id="a", age=0)])
        proxy.swallow_replies(matching=lambda request: b"COMMIT" in request, times=1, cut=True)
        change: list[Operation] = [
            {"type": "update", "table": PEOPLE.name, "data": {"age": 1}, "where": {"id": "a", "age": 0}, "expect": 1},
            insert(id="b"),
        ]
        with pytest.raises(OutcomeUnknown):
            await manager.execute_transaction(change)
        assert await manager.find(PEOPLE.name, {"id": "a"}, columns=["age"]) == [{"age": 1}]
        with pytest.raises(Conflict):
            await manager.execute_transaction(change)


async def test_transaction_cut_before_its_commit_is_run_again_once(proxied: tuple[FaultyProxy, str]) -> None:
    proxy, url = proxied
    async with started(url) as manager:
        await manager.ensure_table(PEOPLE)
        for name in ("BEGIN", "INSERT"):
            proxy.swallow_replies(matching=partial(contains, name.encode()), times=1, cut=True)
            assert await manager.execute_transaction([insert(id=name), insert(id=f"{name}-too", age=1)])
            assert proxy.swallowed.is_set()
            assert await manager.count(PEOPLE.name, {"id": {"prefix": name}}) == 2
            await proxy.pass_all()


def contains(what: bytes, request: bytes) -> bool:
    return what in request


async def test_lost_answer_to_a_single_change_is_an_unknown_outcome(proxied: tuple[FaultyProxy, str]) -> None:
    proxy, url = proxied
    async with started(url, pool_size=1) as manager:
        await manager.ensure_table(PEOPLE)
        await manager.execute_transaction([insert(id="a", age=0)])
        proxy.swallow_replies(times=1, cut=True)
        with pytest.raises(OutcomeUnknown):
            await manager.execute_transaction([insert(id="b", age=0)])
        assert await manager.count(PEOPLE.name) == 2
        proxy.swallow_replies(matching=partial(contains, b"marked"), times=1, cut=True)
        with pytest.raises(OutcomeUnknown):
            await manager.execute_query(f"UPDATE {PEOPLE.name} SET age = age + 1, bio = :bio", {"bio": "marked"})
        assert await manager.count(PEOPLE.name, {"age": 1, "bio": "marked"}) == 2


async def test_reads_are_repeated_on_another_connection(proxied: tuple[FaultyProxy, str]) -> None:
    proxy, url = proxied
    async with started(url) as manager:
        await manager.ensure_table(PEOPLE)
        await manager.find(PEOPLE.name)
        proxy.swallow_replies(times=1, cut=True)
        assert await manager.find(PEOPLE.name) == []
        assert proxy.swallowed.is_set()


async def test_idle_connections_that_were_cut_are_not_used(proxied: tuple[FaultyProxy, str]) -> None:
    proxy, url = proxied
    async with started(url) as manager:
        await manager.ensure_table(PEOPLE)
        await asyncio.gather(*(manager.execute_query("SELECT pg_sleep(0.05)") for _ in range(4)))
        proxy.cut()
        async with asyncio.timeout(GENEROUS_S):
            while proxy.connections:
                await asyncio.sleep(0)
        outcomes = [await manager.execute_transaction([insert(id=str(n))]) for n in range(8)]
        assert all(outcomes)
        await proxy.refuse()
        with pytest.raises(ManagerUnavailable, match="cannot be reached"):
            await manager.find(PEOPLE.name)
        await proxy.pass_all()
        assert await manager.count(PEOPLE.name) == 8


async def test_server_that_falls_silent_behind_the_network(proxied: tuple[FaultyProxy, str]) -> None:
    proxy, url = proxied
    async with started(url, **QUICK) as manager:
        await manager.ensure_table(PEOPLE)
        await manager.execute_transaction([insert(id="a")])
        proxy.half_open()
        async with asyncio.timeout(GENEROUS_S):
            with pytest.raises(OutcomeUnknown):
                await manager.execute_transaction([insert(id="b")])
            with pytest.raises(ManagerUnavailable):
                await manager.execute_transaction([insert(id="c"), *ages(c=1)])
            with pytest.raises(ManagerUnavailable):
                await manager.find(PEOPLE.name)
        await proxy.pass_all()
        await recovered(manager)


async def test_deadlocked_transaction_is_run_again(postgres_url: str) -> None:
    async with started(postgres_url) as manager:
        await manager.ensure_table(PEOPLE)
        await manager.execute_transaction([insert(id="x", age=0), insert(id="y", age=0)])
        other = await connect(postgres_url)
        await other.execute("SET deadlock_timeout = '10min'")
        await other.execute(f"BEGIN; UPDATE {PEOPLE.name} SET bio = 'other' WHERE id = 'y'")
        ours = asyncio.create_task(manager.execute_transaction(ages(x=1, y=1)))
        await waiting_for_a_lock(other)
        await other.execute(f"UPDATE {PEOPLE.name} SET bio = 'other' WHERE id = 'x'")
        await other.execute("COMMIT")
        assert await ours is True
        await other.close(timeout=5)
        rows = await manager.find(PEOPLE.name, columns=["age", "bio"])
        assert rows == [{"age": 1, "bio": "other"}] * 2


async def waiting_for_a_lock(connection: Connection) -> None:
    async with asyncio.timeout(GENEROUS_S):
        while not await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            await asyncio.sleep(0.01)


async def test_serialisation_failures_are_run_again(postgres: PostgresServer, postgres_url: str) -> None:
    database = postgres_url.rpartition("/")[2]
    postgres.sql(f"ALTER DATABASE {database} SET default_transaction_isolation = 'repeatable read'")
    async with started(postgres_url, retries=20) as manager:
        await manager.ensure_table(PEOPLE)
        await manager.execute_transaction([insert(id="a", age=0)])
        changes = (manager.execute_transaction([*ages(a=n), insert(id=str(n))]) for n in range(12))
        assert await asyncio.gather(*changes) == [True] * 12
        assert await manager.count(PEOPLE.name) == 13
    async with started(postgres_url, retries=0) as manager:
        outcomes = await asyncio.gather(
            *(manager.execute_transaction([*ages(a=n), insert(id=f"again-{n}")]) for n in range(12)),
            return_exceptions=True,
        )
        assert {type(outcome) for outcome in outcomes} <= {bool, ManagerUnavailable}


async def test_deferred_constraint_refuses_the_commit(postgres_url: str) -> None:
    async with started(postgres_url) as manager:
        await manager.execute_query("CREATE TABLE parents (id integer PRIMARY KEY)")
        await manager.execute_query(
            "CREATE TABLE children (parent integer REFERENCES parents DEFERRABLE INITIALLY DEFERRED)"
        )
        orphan: Operation = {"type": "insert", "table": "children", "data": {"parent": 1}}
        wrong: Operation = {"type": "insert", "table": "parents", "data": {"id": 2}}
        right: Operation = {"type": "insert", "table": "parents", "data": {"id": 1}}
        for operations in ([orphan], [orphan, wrong]):
            with pytest.raises(Conflict):
                await manager.execute_transaction(operations)
        assert await manager.count("parents") == 0
        assert await manager.execute_transaction([orphan, right])


async def refused(url: str, **changes: Any) -> Base04Error:
    """Return the error with which a manager does not start."""
    manager = PostgresDatabaseManager(postgres_settings(url, **changes))
    with pytest.raises(Base04Error) as caught:
        await manager.start()
    await manager.stop()
    assert not await manager.check_connection()
    return caught.value


async def test_wrong_credentials_are_final_and_name_the_reason(postgres: PostgresServer) -> None:
    with capture_logs() as logs:
        error = await refused(postgres.url_of("postgres", password="canary-wrong"))
        assert isinstance(error, ConfigurationError)
        assert "password" in str(error)
        error = await refused(postgres.url_of("nowhere"))
        assert isinstance(error, ConfigurationError)
        assert "no such database" in str(error)
        error = await refused(postgres.url, admin_url=postgres.url_of("postgres", "nobody"))
        assert isinstance(error, ConfigurationError)
    assert "canary" not in f"{error!r} {error} {error.__cause__!r} {logs}"


async def test_password_beside_the_url(postgres: PostgresServer) -> None:
    async with started(postgres.url_of("postgres", password="wrong"), password=postgres.password) as manager:
        assert await manager.check_connection()


async def test_password_that_changes_while_we_run(postgres: PostgresServer, postgres_url: str) -> None:
    database = postgres_url.rpartition("/")[2]
    postgres.sql("DROP ROLE IF EXISTS changing; CREATE ROLE changing LOGIN PASSWORD 'first'", database)
    postgres.sql("GRANT CREATE ON SCHEMA public TO changing", database)
    async with started(postgres.url_of(database, "changing", "first"), recycle="1ms") as manager:
        postgres.sql("ALTER ROLE changing PASSWORD 'second'", database)
        await asyncio.sleep(0.01)
        with pytest.raises(ManagerUnavailable, match="password"):
            await manager.execute_query("SELECT 1")
        assert (await manager.health_check())["status"] == "unhealthy"
    postgres.sql("DROP OWNED BY changing; DROP ROLE changing", database)


async def test_server_that_is_not_there_may_be_tried_again(fragile: PostgresServer) -> None:
    fragile.kill()
    error = await refused(fragile.url)
    assert isinstance(error, ManagerUnavailable)
    assert fragile.password not in f"{error} {error.__cause__!r}"


async def test_user_who_may_not_make_tables_is_told_so(postgres: PostgresServer, postgres_url: str) -> None:
    database = postgres_url.rpartition("/")[2]
    postgres.sql("DROP ROLE IF EXISTS poor; CREATE ROLE poor LOGIN PASSWORD 'poor'", database)
    error = await refused(postgres.url_of(database, "poor", "poor"))
    assert isinstance(error, ConfigurationError)
    assert "CREATE" in str(error)
    postgres.sql("DROP ROLE poor", database)


async def test_tls_is_verified(tmp_path: Path) -> None:
    ca, stranger = ThrowawayCA(tmp_path / "ca"), ThrowawayCA(tmp_path / "stranger", "Stranger")
    with PostgresServer(ca=ca) as server:
        async with started(server.url, tls={"ca": ca.ca}) as manager:
            assert await manager.execute_query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [
                {"ssl": True}
            ]
        error = await refused(server.url, tls={"ca": stranger.ca})
        assert isinstance(error, ConfigurationError)
        assert "not trusted" in str(error)
        error = await refused(server.url.replace("localhost", "127.0.0.1"), tls={"ca": ca.ca})
        assert isinstance(error, ConfigurationError)
        assert "not trusted" in str(error)
        async with started(server.url, tls={"verify": False}) as manager:
            assert await manager.check_connection()
        error = await refused(server.url, tls={"ca": tmp_path / "missing.pem"})
        assert isinstance(error, ConfigurationError)
        assert "tls.ca" in str(error)


async def test_tls_that_the_server_does_not_speak(postgres: PostgresServer) -> None:
    error = await refused(postgres.url, tls={})
    assert isinstance(error, ConfigurationError)
    assert "does not speak TLS" in str(error)


async def test_errors_leave_the_connection_usable(postgres_url: str) -> None:
    async with started(postgres_url, pool_size=1, pool_timeout="5s") as manager:
        await manager.ensure_table(PEOPLE)
        await manager.execute_transaction([insert(id="a")])
        for _ in range(50):
            with pytest.raises(Conflict):
                await manager.execute_transaction([insert(id="b"), *ages(b=1), insert(id="a")])
            with pytest.raises(Conflict):
                await manager.execute_transaction([insert(id="a")])
            with pytest.raises(InvalidInput):
                await manager.execute_query("SELEC 1")
        assert await manager.count(PEOPLE.name) == 1
        status = await manager.get_connection_pool_status()
        assert status == {"size": 1, "in_use": 0, "idle": 1, "waiting": 0}
