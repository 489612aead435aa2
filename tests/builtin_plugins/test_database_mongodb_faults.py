"""The provider ``mongodb`` when its server dies, hangs, loses replies, or is asked for too much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from base04.testing.certificates import ThrowawayCA
from base04.testing.conformance.database import PEOPLE, insert
from base04.testing.proxy import FaultyProxy
from base04.testing.servers.ferretdb import FerretDBServer
from base04_builtin.database.mongodb import MongoDatabaseManager
from base04_hookspecs.database import Operation
from base04_hookspecs.errors import (
    ConfigurationError,
    ManagerError,
    ManagerUnavailable,
    OutcomeUnknown,
)
from mongo_kit import manager_of, mongo_settings

FAST = {"connect_timeout": "500ms", "statement_timeout": "20s"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FerretDBServer]:
    with FerretDBServer(tmp_path / "server") as server:
        yield server


@asynccontextmanager
async def manager_at(server: FerretDBServer, **given: Any) -> AsyncIterator[MongoDatabaseManager]:
    async with manager_of(mongo_settings(server.url, "test", **{**FAST, **given})) as manager:
        await manager.ensure_table(PEOPLE)
        yield manager


@asynccontextmanager
async def proxied_manager_at(
    server: FerretDBServer, **given: Any
) -> AsyncIterator[tuple[FaultyProxy, MongoDatabaseManager]]:
    async with FaultyProxy((server.host, server.port)) as proxy:
        url = f"mongodb://{proxy.host}:{proxy.port}/"
        async with manager_of(mongo_settings(url, "test", **{**FAST, **given})) as manager:
            await manager.ensure_table(PEOPLE)
            yield proxy, manager


def commanding(name: str) -> Any:
    """Return what tells requests that begin a command apart: its name and a string, the collection, stand in them."""
    return lambda request: b"\x02" + name.encode() + b"\0" in request


async def test_server_killed_in_the_middle_of_traffic_fails_fast_and_nothing_acknowledged_is_lost(
    server: FerretDBServer,
) -> None:
    acknowledged: list[str] = []
    failures: list[Exception] = []
    async with manager_at(server) as manager:

        async def write(worker: int) -> None:
            for number in range(30):
                key = f"{worker}-{number}"
                try:
                    async with asyncio.timeout(60):
                        await manager.execute_transaction([insert(id=key, age=1)])
                except (ManagerUnavailable, OutcomeUnknown) as error:
                    failures.append(error)
                else:
                    acknowledged.append(key)

        async def crash() -> None:
            async with asyncio.timeout(60):
                while len(acknowledged) < 10:
                    await asyncio.sleep(0.001)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)

        await asyncio.gather(crash(), *(write(worker) for worker in range(4)))
        assert await manager.execute_transaction([insert(id="after")]), "service comes back without a restart"
        stored = {row["id"] for row in await manager.find(PEOPLE.name, columns=["id"])}
    assert failures
    assert set(acknowledged) <= stored


async def test_nothing_hangs_while_the_server_does(server: FerretDBServer) -> None:
    async with manager_at(server, statement_timeout="700ms", pool_timeout="300ms") as manager:
        await manager.execute_transaction([insert(id="a", age=1)])
        server.pause()
        try:
            async with asyncio.timeout(60):
                for asked in (
                    manager.find(PEOPLE.name),
                    manager.count(PEOPLE.name),
                    manager.execute_query({"ping": 1}),
                ):
                    with pytest.raises((ManagerUnavailable, OutcomeUnknown)):
                        await asked
                with pytest.raises((ManagerUnavailable, OutcomeUnknown)):
                    await manager.execute_transaction([insert(id="b")])
                assert await manager.check_connection() is False
                assert (await manager.health_check())["status"] == "unhealthy"
        finally:
            server.resume()
        await recovered(manager)
        assert await manager.find(PEOPLE.name, {"id": "a"}, columns=["age"]) == [{"age": 1}]


async def recovered(manager: MongoDatabaseManager) -> None:
    async with asyncio.timeout(60):
        while not await manager.check_connection():
            await asyncio.sleep(0.02)


async def test_start_fails_in_time_when_nobody_answers(server: FerretDBServer) -> None:
    server.kill()
    with pytest.raises(ManagerUnavailable, match="cannot be reached"):
        async with manager_at(server):
            pass


async def test_insert_whose_reply_is_lost_is_not_repeated(server: FerretDBServer) -> None:
    async with proxied_manager_at(server) as (proxy, manager):
        proxy.swallow_replies(matching=lambda request: b"counted" in request, times=1, cut=True)
        with pytest.raises(OutcomeUnknown):
            await manager.execute_query({"insert": "counted", "documents": [{"n": 1}]})
        assert await manager.count("counted") == 1


async def test_read_whose_reply_is_lost_is_repeated(server: FerretDBServer) -> None:
    async with proxied_manager_at(server) as (proxy, manager):
        await manager.execute_transaction([insert(id="a")])
        proxy.swallow_replies(matching=commanding("find"), times=1, cut=True)
        try:
            rows = await manager.find(PEOPLE.name, columns=["id"])
        except ManagerUnavailable:  # a server that stands alone: the driver repeats reads where it can
            rows = await manager.find(PEOPLE.name, columns=["id"])
        assert rows == [{"id": "a"}]
        assert proxy.swallowed.is_set()


async def test_operations_are_taken_back_as_far_as_possible_and_the_rest_is_told(server: FerretDBServer) -> None:
    async with proxied_manager_at(server) as (proxy, manager):
        await manager.execute_transaction([insert(id="a", age=1)])
        proxy.swallow_replies(matching=commanding("delete"), times=1, cut=True)
        change: Operation = {"type": "update", "table": PEOPLE.name, "data": {"age": 2}, "where": {"id": "a"}}
        with pytest.raises(OutcomeUnknown, match="taken back"):
            await manager.execute_transaction([change, insert(id="b"), insert(id="a")])
        assert proxy.swallowed.is_set()
        assert await manager.find(PEOPLE.name, columns=["id", "age"]) == [{"id": "a", "age": 1}]


async def test_waiting_for_a_connection_ends_with_a_clear_error(server: FerretDBServer) -> None:
    settings = {"pool_size": 1, "pool_timeout": "200ms"}
    async with proxied_manager_at(server, **settings) as (proxy, manager):
        proxy.swallow_replies(matching=commanding("find"), times=1)
        slow = asyncio.create_task(manager.find(PEOPLE.name))
        await proxy.swallowed.wait()
        status = await manager.get_connection_pool_status()
        assert (status["size"], status["in_use"]) == (1, 1)
        with pytest.raises(ManagerUnavailable, match="pool_timeout"):
            await manager.count(PEOPLE.name)
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        await proxy.pass_all()
        await recovered(manager)
        assert await manager.count(PEOPLE.name) == 0


async def test_a_thousand_cancelled_queries_leak_no_connection(server: FerretDBServer) -> None:
    async with manager_at(server, pool_size=4) as manager:
        await manager.execute_transaction([insert(id=str(n)) for n in range(20)])
        for _ in range(20):
            tasks = [asyncio.create_task(manager.find(PEOPLE.name)) for _ in range(50)]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(60):  # those that were under way go on to their end
            while (status := await manager.get_connection_pool_status())["in_use"]:
                await asyncio.sleep(0.01)
        assert status["waiting"] == 0
        assert status["idle"] <= 4
        assert await manager.count(PEOPLE.name) == 20


async def test_cancelled_changes_leave_no_lock(server: FerretDBServer) -> None:
    async with manager_at(server) as manager:
        await manager.execute_transaction([insert(id="a", age=0)])
        change: Operation = {"type": "update", "table": PEOPLE.name, "data": {"age": 1}, "where": {"id": "a"}}
        for _ in range(10):
            tasks = [asyncio.create_task(manager.execute_transaction([change])) for _ in range(4)]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert await manager.execute_transaction([change])


async def test_migration_that_outlives_its_lock_is_told_so(server: FerretDBServer) -> None:
    async with proxied_manager_at(server, lease="300ms", connect_timeout="100ms") as (proxy, manager):

        async def step(database: Any) -> None:
            await proxy.refuse()
            await asyncio.Event().wait()

        with pytest.raises(ManagerUnavailable, match="was lost"):
            async with asyncio.timeout(60):
                await manager.migrate("owner", [step])
        await proxy.pass_all()
        await recovered(manager)

        async def good(database: Any) -> None: ...

        assert await manager.migrate("owner", [good]) == 1


async def test_passwords_stay_out_of_errors_and_logs(server: FerretDBServer) -> None:
    url = f"mongodb://ada:canary@{server.host}:{server.port}/?authMechanism=SCRAM-SHA-256"
    with capture_logs() as entries, pytest.raises((ConfigurationError, ManagerError)) as caught:
        async with manager_of(mongo_settings(url, "test", **FAST, password="canary, too")):
            pass
    shown = repr(entries)
    link: BaseException | None = caught.value
    while link is not None:
        shown += repr(link)
        link = link.__cause__
    assert "canary" not in shown


async def test_certificates_are_verified(tmp_path: Path) -> None:
    authority, stranger = ThrowawayCA(tmp_path / "right"), ThrowawayCA(tmp_path / "wrong")
    with FerretDBServer(tmp_path / "server", ca=authority) as server:
        async with manager_of(mongo_settings(server.tls_url, "test", ca=str(authority.ca), **FAST)) as manager:
            assert await manager.check_connection() is True
        elsewhere = server.tls_url.replace("localhost", server.host)
        for url, ca in ((server.tls_url, stranger.ca), (elsewhere, authority.ca)):
            with pytest.raises(ConfigurationError, match="not trusted"):
                async with manager_of(mongo_settings(url, "test", ca=str(ca), **FAST)):
                    pass


async def test_missing_file_of_the_authority_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    with pytest.raises(ConfigurationError, match=str(missing)):
        async with manager_of(mongo_settings("mongodb://localhost/?tls=true", "test", ca=str(missing))):
            pass
