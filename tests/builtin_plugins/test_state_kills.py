"""What was acknowledged is there, with its history, whoever was killed; and one of many that race wins."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from base04.testing.servers.postgres import PostgresServer
from base04_builtin.state.outbox import Router
from base04_builtin.state.tables import DELIVERIES, HISTORY, STATES
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.errors import Base04Error
from mongo_kit import mongo, mongo_database
from postgres_kit import postgres, postgres_url
from state_child import database_at
from state_kit import Child, states, there, until

__all__ = ["mongo", "mongo_database", "postgres", "postgres_url"]


@pytest.fixture(params=["sqlite", "postgresql", "mongodb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a database is, as ``state_child`` takes it."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'base04.sqlite3'}"
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    address, name = request.getfixturevalue("mongo_database")
    return f"{address}#{name}"


@pytest.fixture
def mongo_place(mongo_database: tuple[str, str]) -> str:
    address, name = mongo_database
    return f"{address}#{name}"


@pytest.fixture
def fragile() -> Iterator[PostgresServer]:
    """A server of the test's own, to be killed."""
    with PostgresServer(fsync=True) as server:
        yield server


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[DatabaseManager]:
    database = database_at(url)
    await database.start()
    try:
        yield database
    finally:
        await database.stop()


async def test_what_a_killed_process_acknowledged_is_there(url: str) -> None:
    async with opened(url) as database, states(database) as manager:
        await manager.register_state("s", "session", {})
        async with Child(do="write", state_id="s", database=url) as child:
            for _ in range(20):
                await child.line()
            child.process.kill()
            acknowledged = int((await child.rest() or ["20"])[-1])
        state = await there(manager, fresh=True)
        assert acknowledged <= state["data"]["n"] <= acknowledged + 1
        history = await manager.get_state_history("s")
        assert [change["version"] for change in history] == list(range(state["version"], 0, -1))
        assert [change["after"] for change in history[:-1]] == [{"n": n} for n in range(state["data"]["n"], 0, -1)]


async def test_what_a_killed_process_changed_is_delivered(url: str) -> None:
    heard: list[int] = []

    async def listen(change: object) -> None:
        heard.append(change["version"])  # type: ignore[index]  # a change

    async with opened(url) as database:
        async with states(database) as manager:
            await manager.register_callback("s", listen, name="mailer")
            await manager.unregister_callback("s", listen)
            await manager.register_state("s", "session", {})
        async with Child(do="write", state_id="s", database=url) as child:
            for _ in range(10):
                await child.line()
        async with states(database) as manager:
            await manager.register_callback("s", listen, name="mailer")
            version = (await there(manager))["version"]
            await until(lambda: _has(heard, version))
            assert heard == list(range(1, version + 1))


async def test_what_was_acknowledged_before_postgresql_was_killed_is_there(fragile: PostgresServer) -> None:
    acknowledged = 0
    async with opened(fragile.url) as database, states(database) as manager:
        await manager.register_state("s", "session", {})
        killing = asyncio.ensure_future(asyncio.to_thread(fragile.kill))
        with contextlib.suppress(Base04Error):
            for number in range(1, 100_000):
                assert await manager.update_state("s", {"n": number}) is True
                acknowledged = number
        await killing
        await asyncio.to_thread(fragile.start)
        await until(database.check_connection)
        state = await there(manager, fresh=True)
        assert acknowledged <= state["data"].get("n", 0) <= acknowledged + 1
        versions = [change["version"] for change in await manager.get_state_history("s")]
        assert versions == list(range(state["version"], 0, -1))
        assert await manager.update_state("s", {"n": 0}) is True


async def test_one_of_many_in_several_processes_wins(url: str) -> None:
    async with opened(url) as database, states(database) as manager:
        await manager.register_state("s", "session", {})
        async with AsyncExitStack() as stack:
            task = {"do": "race", "state_id": "s", "database": url, "tasks": 4}
            children = [await stack.enter_async_context(Child(**task)) for _ in range(3)]
            assert [await child.line() for child in children] == ["ready"] * 3
            await asyncio.gather(*(child.go() for child in children))
            assert sorted([await child.line() for child in children]) == ["0", "0", "1"]
        state = await there(manager, fresh=True)
        assert (state["status"], state["version"]) == ("suspended", 2)
        assert [change["transition"] for change in await manager.get_state_history("s")] == ["suspend", "create"]


@pytest.mark.parametrize("step", range(1, 9))
async def test_relay_that_dies_in_a_gap_loses_nothing(mongo_place: str, step: int) -> None:
    async with opened(mongo_place) as database:
        if database.supports_transactions():
            pytest.skip("This server has transactions, and so no relay.")
        async with states(database, poll_interval=1000) as manager:
            await manager.register_callback("s", print, name="mailer")
            await manager.unregister_callback("s", print)
            await manager.register_state("other", "session", {})
            await until(lambda: _is_shipped(database))
            await manager._parts.durable.stop()  # from here on the other process is the relay
            await manager.register_state("s", "session", {})
            await manager.update_state("s", {"n": 2})
            await manager.delete_state("s")
            async with Child(do="relay", database=mongo_place, step=step) as child:
                printed = await child.line()
                assert (printed, await child.ended()) in (("", -signal.SIGKILL), ("done", 0))
            assert (printed == "done") is (step == 8)
            expected = [("delete", 3), ("update", 2), ("create", 1)]
            assert await manager.get_state("s") is None
            history = await manager.get_state_history("s")
            assert [(change["transition"], change["version"]) for change in history] == expected

            heard: list[tuple[int, str]] = []
            async with states(database) as successor:
                await successor.register_callback(
                    "s", lambda c: heard.append((c["version"], c["event_id"])), name="mailer"
                )
                await until(lambda: _has(heard, (3, history[0]["event_id"])))
                await until(lambda: _is_shipped(database))
            assert heard == [(change["version"], change["event_id"]) for change in reversed(history)]
            assert await manager.get_state_history("s") == history
            assert await database.count(STATES.name) == 1


async def test_state_on_a_server_without_transactions_carries_its_history(mongo_place: str) -> None:
    async with opened(mongo_place) as database:
        if database.supports_transactions():
            pytest.skip("This server has transactions.")
        async with states(database, poll_interval=1000) as manager:
            await manager._parts.durable.stop()
            await manager.register_state("s", "session", {})
            for n in range(3):
                await manager.update_state("s", {"n": n})
            assert await database.count(HISTORY.name) == 0
            assert [change["version"] for change in await manager.get_state_history("s")] == [4, 3, 2, 1]
            assert [change["version"] for change in await manager.get_state_history("s", 2)] == [4, 3]
            assert [c["version"] for c in await manager.get_state_history("s", before_version=3)] == [2, 1]
            watch = manager.watch("s", from_version=2)
            assert [(await anext(watch))["version"] for _ in range(2)] == [3, 4]
            await manager.delete_state("s")
            assert await manager.register_state("s", "session", {}) is True
            assert (await there(manager))["version"] == 6
            router = Router(database, manager._parts.durable._router._relay)
            assert await router.has_work() is True
            await router.route_some()
            assert await router.has_work() is False
            assert await database.count(HISTORY.name) == 6
            assert await database.count(DELIVERIES.name) == 0
            assert [change["version"] for change in await manager.get_state_history("s", 3)] == [6, 5, 4]


async def _has(heard: Sequence[object], one: object) -> bool:
    return one in heard


async def _is_shipped(database: DatabaseManager) -> bool:
    return await database.count(STATES.name, {"unshipped": 1}) == 0
