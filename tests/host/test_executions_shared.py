"""Two hosts on one database: executions and keys of requests are shared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from base04.app_manager import AppManager
from base04.executions.record import history_rows
from base04.executions.table import ExecutionQuery
from base04_hookspecs.context import RequestContext
from execution_kit import ADA, client, host, new_gates
from mongo_kit import mongo, mongo_database
from postgres_kit import postgres, postgres_url

__all__ = ["mongo", "mongo_database", "postgres", "postgres_url"]

CONTEXT = RequestContext("request-1", ADA, "192.0.2.7", "http")
Hosts = tuple[AppManager, AppManager]


@pytest.fixture(params=["postgresql", "mongodb"])
async def hosts(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Hosts]:
    database: dict[str, Any] = {"provider": request.param}
    if request.param == "postgresql":
        database["postgresql"] = {"url": request.getfixturevalue("postgres_url"), "pool_size": 4}
    else:
        url, name = request.getfixturevalue("mongo_database")
        database["mongodb"] = {"url": url, "database": name}
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    shared = {"managers": {"database": database}, "executions": {"lease": "500ms"}}
    async with host(folders[0], **shared) as a, host(folders[1], **shared) as b:
        yield a, b


async def submitted(app: AppManager, name: str, action: str = "pack.long", **further: Any) -> str:
    context = RequestContext("request-1", ADA, "192.0.2.7", "http", action)
    found = app.generation.pipeline.find(action)
    return str((await app.executions.submit(found, {"name": name, **further}, context))["id"])


async def test_execution_is_followed_from_another_host(hosts: Hosts) -> None:
    a, b = hosts
    gates = new_gates("x")
    identity = await submitted(a, "x", steps=2)
    await gates.until_begun("x")
    await gates.open("x")
    row = await b.executions.ended(identity, 30)
    assert row is not None
    assert (row["status"], row["result"]) == ("succeeded", '{"name":"x","times":1}')
    assert row["progress"] == {"done": 2, "total": 2, "message": "step 2"}


async def test_execution_is_cancelled_from_another_host(hosts: Hosts) -> None:
    a, b = hosts
    gates = new_gates("x")
    identity = await submitted(a, "x")
    await gates.until_begun("x")
    await b.executions.cancel(identity)
    row = await b.executions.ended(identity, 30)
    assert row is not None
    assert row["status"] == "cancelled"
    assert gates.cancelled["x"] == 1


@pytest.mark.parametrize(
    ("action", "status", "times"), [("pack.long", "interrupted", 1), ("pack.long_again", "succeeded", 2)]
)
async def test_what_a_dead_host_left_behind_is_taken_by_another_once(
    hosts: Hosts, action: str, status: str, times: int
) -> None:
    gates = new_gates("x")
    identity = await submitted(hosts[0], "x", action)
    await gates.until_begun("x")
    with capture_logs():
        table = hosts[0].executions.table
        assert await table.change({"id": identity}, {"owner": "dead", "lease_until": 1.0})
        await gates.until_cancelled("x")
        await gates.open("x")
        row = await hosts[1].executions.ended(identity, 30)
    assert row is not None
    assert (row["status"], gates.begun["x"]) == (status, times)


async def test_requests_with_one_key_run_once_whichever_host_they_come_to(hosts: Hosts) -> None:
    gates = new_gates("x")
    async with client(hosts[0]) as first, client(hosts[1]) as second:

        async def post(http: Any) -> Any:
            headers = {"idempotency-key": '"key-1"'}
            return await http.post("/actions/pack.work", json={"name": "x"}, headers=headers)

        running = asyncio.create_task(post(first))
        await gates.until_begun("x")
        assert (await post(second)).status_code == 409
        await gates.open("x")
        assert (await running).json() == {"name": "x", "times": 1}
        replayed = await post(second)
        assert (replayed.json(), replayed.headers["idempotent-replayed"]) == ({"name": "x", "times": 1}, "true")
    assert gates.begun["x"] == 1


async def test_history_of_all_hosts_is_listed_in_pages_and_swept(hosts: Hosts) -> None:
    new_gates()
    for number, app in enumerate(hosts):
        await app.run_action("pack.add", {"a": number}, principal=ADA)
        await app.executions.history.written()
    table = hosts[0].executions.table
    old = RequestContext("request-0", ADA, None, "cli", "pack.add")
    await table.add(history_rows([(old, "failed", 1_000_000_000.0, 0.5, ValueError("old"))]))
    first, more = await hosts[1].executions.query(ExecutionQuery(action="pack.*", user_id="ada", limit=2))
    assert more is not None
    rest, end = await hosts[1].executions.query(ExecutionQuery(before=more))
    assert [row["status"] for row in [*first, *rest]] == ["succeeded", "succeeded", "failed"]
    assert end is None
    assert await hosts[0].executions.sweep() == 1
