from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from structlog.testing import capture_logs

import execution_kit as kit
from base04.app_manager import AppManager
from base04.executions.record import history_rows
from base04.executions.table import TABLE, ExecutionQuery, ExecutionTable
from base04_hookspecs.context import RequestContext
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.errors import Conflict, InvalidInput, ManagerUnavailable, NotFound
from execution_kit import ADA, client, host, key_for, new_gates
from host_kit import until

CONTEXT = RequestContext("request-1", ADA, "192.0.2.7", "http")


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[AppManager]:
    async with host(tmp_path) as manager:
        yield manager


async def submitted(app: AppManager, name: str, action: str = "pack.long", **further: Any) -> str:
    """Submit an execution as Ada, and return its id."""
    found = app.generation.pipeline.find(action)
    context = RequestContext("request-1", ADA, "192.0.2.7", "http", action)
    return str((await app.executions.submit(found, {"name": name, **further}, context))["id"])


async def end_of(app: AppManager, identity: str) -> dict[str, Any]:
    """Return an execution that has ended."""
    row = await app.executions.ended(identity, 30)
    assert row is not None
    return row


async def posted(client: httpx.AsyncClient, path: str, **further: Any) -> httpx.Response:
    return await client.post(path, json={"name": "x", **further.pop("args", {})}, headers=further)


# asking for it


async def test_background_action_is_answered_before_it_has_run_and_its_result_can_be_had(app: AppManager) -> None:
    gates = new_gates("x")
    async with client(app, **await key_for(app, "ada", "pack.use")) as http:
        answer = await posted(http, "/actions/pack.long", args={"steps": 2})
        assert answer.status_code == 202
        body, location = answer.json(), answer.headers["location"]
        assert location == f"/executions/{body['id']}"
        assert (body["status"], body["action"], body["user_id"]) == ("queued", "pack.long", "ada")
        await gates.until_begun("x")
        running = (await http.get(location)).json()
        assert running["status"] == "running"
        assert running["progress"] == {"done": 2, "total": 2, "message": "step 2"}
        await gates.open("x")
        done = await end_of(app, body["id"])
        assert (done["arguments"], done["principal"], done["owner"]) == (None, None, None)
        shown = (await http.get(location)).json()
    assert (shown["status"], shown["result"]) == ("succeeded", {"name": "x", "times": 1})
    assert shown["request_id"] == answer.headers["x-request-id"]
    assert shown["duration"] >= 0
    assert not {"arguments", "principal", "owner", "client_ip"} & set(shown)


async def test_background_action_runs_as_who_showed_a_token(app: AppManager) -> None:
    async with client(app, **await key_for(app, "ada", "pack.use")) as http:
        token = (await http.post("/auth/token")).json()["access_token"]
    async with client(app, authorization=f"Bearer {token}") as http:
        answer = await posted(http, "/actions/pack.long")
        assert answer.status_code == 202
        done = await end_of(app, answer.json()["id"])
    assert (done["status"], done["user_id"]) == ("succeeded", "ada")


async def test_preference_makes_any_action_run_in_the_background_and_waits_as_long_as_it_says(app: AppManager) -> None:
    gates = new_gates("slow")
    async with client(app) as http:
        quick = await posted(http, "/actions/pack.work", prefer="respond-async, wait=30")
        assert (quick.status_code, quick.json()) == (200, {"name": "x", "times": 1})
        assert quick.headers["preference-applied"] == "respond-async"
        slow = await posted(http, "/actions/pack.work", args={"name": "slow"}, prefer="respond-async")
        assert slow.status_code == 202
        with capture_logs():
            failed = await posted(
                http, "/actions/pack.work", args={"end": "conflict"}, prefer="respond-async;x, wait=30"
            )
        assert (failed.status_code, failed.json()["type"]) == (409, "urn:base04:problem:conflict")
        await gates.open("slow")
        await end_of(app, slow.json()["id"])


async def test_what_is_wrong_is_said_before_anything_is_taken(app: AppManager) -> None:
    async with client(app) as http:
        assert (await posted(http, "/actions/pack.long")).status_code == 401
        wrong = await posted(http, "/actions/pack.long_again", args={"name": 7})
        assert wrong.status_code == 422
        headers = await key_for(app, "root", "*")
        assert (await http.get("/executions", headers=headers)).json() == {"executions": [], "next": None}


async def test_without_an_executor_a_preference_is_ignored_and_a_background_action_refused(tmp_path: Path) -> None:
    new_gates()
    async with host(tmp_path, managers={"executor": {"provider": "none"}}) as app, client(app) as http:
        assert (await posted(http, "/actions/pack.work", prefer="respond-async")).status_code == 200
        refused = await posted(http, "/actions/pack.long_again")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert "no 'executor' is running" in refused.json()["detail"]


async def test_more_than_the_executor_takes_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    gates = new_gates("x")
    small = {"executor": {"inline": {"size": 1, "waiting": 0}}}
    async with host(tmp_path, managers=small) as app, client(app) as http:
        first = await posted(http, "/actions/pack.long_again")
        await gates.until_begun("x")
        assert (await posted(http, "/actions/pack.long_again")).status_code == 503
        rows, _ = await app.executions.query(ExecutionQuery())
        assert [row["id"] for row in rows] == [first.json()["id"]]
        await gates.open("x")
        await end_of(app, first.json()["id"])


# how it ends


@pytest.mark.parametrize(
    ("end", "kind"), [("conflict", "conflict"), ("exit", "action-failed"), ("a bug", "action-failed")]
)
async def test_execution_that_fails_keeps_the_problem_and_no_details(app: AppManager, end: str, kind: str) -> None:
    new_gates()
    with capture_logs():
        row = await end_of(app, await submitted(app, "x", end=end))
    assert (row["status"], row["result"]) == ("failed", None)
    assert row["error"]["type"] == f"urn:base04:problem:{kind}"
    assert row["error"]["request_id"] == "request-1"
    assert "bug" not in json.dumps(row["error"])
    assert app.is_initialized()


async def test_execution_whose_caller_may_not_any_more_fails(app: AppManager) -> None:
    new_gates()
    found = app.generation.pipeline.find("pack.long")
    stranger = RequestContext("request-1", action="pack.long")
    identity = (await app.executions.submit(found, {"name": "x"}, stranger))["id"]
    row = await end_of(app, identity)
    assert (row["status"], row["error"]["status"]) == ("failed", 401)
    assert kit.gates.begun["x"] == 0


async def test_running_execution_is_cancelled(app: AppManager) -> None:
    gates = new_gates("x")
    identity = await submitted(app, "x", steps=1)
    await gates.until_begun("x")
    await app.executions.cancel(identity)
    row = await end_of(app, identity)
    assert (row["status"], row["progress"]["done"]) == ("cancelled", 1)
    assert gates.cancelled["x"] == 1
    assert await app.executions.cancel(identity) == row


async def test_waiting_execution_is_cancelled_and_never_begun(tmp_path: Path) -> None:
    gates = new_gates("first")
    async with host(tmp_path, managers={"executor": {"inline": {"size": 1}}}) as app:
        first, second = await submitted(app, "first"), await submitted(app, "second")
        await gates.until_begun("first")
        assert (await app.executions.cancel(second))["status"] == "cancelled"
        await gates.open("first")
        assert (await end_of(app, first))["status"] == "succeeded"
        assert (await end_of(app, second))["status"] == "cancelled"
    assert gates.begun["second"] == 0


async def test_execution_waits_for_a_place_beside_others(app: AppManager) -> None:
    gates = new_gates("first", "second")
    first = await submitted(app, "first", "pack.once_at_a_time")
    await gates.until_begun("first")
    second = await submitted(app, "second", "pack.once_at_a_time")
    await until(lambda: second in app.executions.live)
    async with client(app) as http:
        assert (await posted(http, "/actions/pack.once_at_a_time")).status_code == 503
    assert gates.begun["second"] == 0
    for name in ("first", "second"):
        await gates.open(name)
    assert {(await end_of(app, identity))["status"] for identity in (first, second)} == {"succeeded"}


async def test_performing_what_has_ended_or_is_unknown_does_nothing(app: AppManager) -> None:
    gates = new_gates()
    identity = await submitted(app, "x")
    row = await end_of(app, identity)
    await app.executions.perform(identity)
    await app.executions.perform("nobody")
    assert await app.executions.get(identity) == row
    assert gates.begun["x"] == 1
    with pytest.raises(NotFound, match="no execution 'nobody'"):
        await app.executions.get("nobody")


async def test_progress_must_be_numbers_and_a_text(app: AppManager) -> None:
    gates = new_gates("x")
    identity = await submitted(app, "x")
    await gates.until_begun("x")
    live = app.executions.live[identity]
    for wrong in (("1", None, ""), (float("nan"), None, ""), (1, True, ""), (1, 2, 3)):
        with pytest.raises(InvalidInput):
            live.report(*wrong)
    await gates.open("x")
    await end_of(app, identity)


async def test_secrets_are_in_no_row_and_what_needs_them_is_not_run_by_another(tmp_path: Path) -> None:
    gates = new_gates("x")
    settings = {"server": {"drain_timeout": 0.01}}
    async with host(tmp_path, **settings) as app:
        async with client(app) as http:
            ids = [
                (await http.post("/actions/pack.login", json={"name": name, "password": "hunter2"})).json()["id"]
                for name in ("y", "x")
            ]
        row = await end_of(app, ids[0])
        assert json.loads(row["result"])["length"] == 7
        await gates.until_begun("x")
        for identity in ids:
            kept = json.dumps(await app.executions.table.find(identity))
            assert "hunter2" not in kept
            assert "token of" not in kept
    new_gates()
    async with host(tmp_path) as app:
        again = await end_of(app, ids[1])
    assert (again["status"], again["attempt"], again["error"]["status"]) == ("failed", 2, 501)


# following it


async def test_events_tell_of_progress_and_end_with_the_result(app: AppManager) -> None:
    gates = new_gates("x")
    async with client(app) as http:
        body = (await posted(http, "/actions/pack.long_again", args={"steps": 3})).json()
        await gates.until_begun("x")
        stream = asyncio.create_task(http.get(f"/executions/{body['id']}/events"))
        await asyncio.sleep(0)
        await gates.open("x")
        answer = await stream
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [part.split("\n") for part in answer.text.strip().split("\n\n")]
    assert events[0] == ["retry: 1000"]
    assert events[-1][0] == "event: end"
    last = json.loads(events[-1][1].removeprefix("data: "))
    assert (last["status"], last["result"]) == ("succeeded", {"name": "x", "times": 1})
    assert last["progress"] == {"done": 3, "total": 3, "message": "step 3"}


async def test_following_yields_every_change_and_ends_when_the_host_drains(app: AppManager) -> None:
    gates = new_gates("x")
    identity = await submitted(app, "x")
    await gates.until_begun("x")
    rows = app.executions.follow(identity)
    assert (await anext(rows))["status"] == "running"
    app.executions.live[identity].report(1, 4, "one")
    assert (await anext(rows))["progress"] == {"done": 1, "total": 4, "message": "one"}
    await app.executions.drain()
    assert [row async for row in rows] == []
    await gates.open("x")


# whose it is


async def test_everybody_sees_and_cancels_their_own_and_more_with_a_permission(app: AppManager) -> None:
    gates = new_gates("x")
    identity = await submitted(app, "x")
    await gates.until_begun("x")
    async with client(app) as http:
        for path in (f"/executions/{identity}", f"/executions/{identity}/events"):
            assert (await http.get(path)).status_code == 404
        bob, reader = await key_for(app, "bob"), await key_for(app, "carol", "executions.read")
        assert (await http.get(f"/executions/{identity}", headers=bob)).status_code == 404
        assert (await http.post(f"/executions/{identity}/cancel", headers=reader)).status_code == 404
        seen = (await http.get(f"/executions/{identity}", headers=reader)).json()
        assert seen["client_ip"] == "192.0.2.7"
        ada = await key_for(app, "ada")
        cancelled = await http.post(f"/executions/{identity}/cancel", headers=ada)
        assert cancelled.status_code in (200, 202)
        await end_of(app, identity)
        again = await http.post(f"/executions/{identity}/cancel", headers=ada)
        assert (again.status_code, again.json()["status"]) == (200, "cancelled")


async def test_history_is_listed_with_filters_and_pages(app: AppManager) -> None:
    new_gates()
    async with client(app) as http:
        ada, root = await key_for(app, "ada"), await key_for(app, "root", "executions.read")
        for number in range(3):
            await http.post("/actions/pack.add", json={"a": number}, headers={**ada, "x-request-id": f"r{number}"})
        with capture_logs():
            await http.post("/actions/pack.work", json={"name": "x", "end": "conflict"})
        assert (await http.get("/executions")).status_code == 401
        assert (await http.get("/executions?user=bob", headers=ada)).status_code == 403
        own = (await http.get("/executions", headers=ada)).json()["executions"]
        assert [row["request_id"] for row in own] == ["r2", "r1", "r0"]
        assert {(row["action"], row["status"], row["user_id"], row["mode"]) for row in own} == {
            ("pack.add", "succeeded", "ada", "wait")
        }
        assert "client_ip" not in own[0]

        async def found(query: str) -> list[str]:
            answer = await http.get(f"/executions?{query}", headers=root)
            return [row["action"] + ":" + row["status"] for row in answer.json()["executions"]]

        assert await found("status=failed") == ["pack.work:failed"]
        assert await found("action=pack.work") == ["pack.work:failed"]
        assert await found("user=ada&limit=2") == ["pack.add:succeeded"] * 2
        assert len(await found("action=pack.*&since=1h")) == 4
        assert await found("until=1h") == []
        assert await found("request_id=r1") == ["pack.add:succeeded"]
        first = (await http.get("/executions?limit=3", headers=root)).json()
        rest = (await http.get(f"/executions?before={first['next']}", headers=root)).json()
        assert (len(first["executions"]), len(rest["executions"]), rest["next"]) == (3, 1, None)
        wrong = await http.get("/executions?statsu=x&status=odd&limit=0&before=z&since=soon", headers=root)
        assert wrong.status_code == 422
        assert [fault["pointer"] for fault in wrong.json()["errors"]] == [
            *("/statsu", "/status", "/limit", "/before", "/since")
        ]


async def test_retention_deletes_what_is_old_and_what_is_too_much_and_keeps_what_runs(tmp_path: Path) -> None:
    gates = new_gates("x")
    async with host(tmp_path, executions={"retention": "1d", "most": 2}) as app:
        running = await submitted(app, "x")
        await gates.until_begun("x")
        now, days = time.time(), 86400
        ages = [0, 1, 2, 2 * days, 3 * days]
        context = dataclasses.replace(CONTEXT, action="pack.add")
        rows = history_rows([(context, "succeeded", now - age, 0.1, None) for age in ages])
        old = {**rows[-1], "id": "0" * 46, "status": "running"}
        await app.executions.table.add([*rows, old])
        assert await app.executions.sweep() == 3
        kept = {row["id"] for row in (await app.executions.query(ExecutionQuery()))[0]}
        assert kept == {running, old["id"], rows[0]["id"], rows[1]["id"]}
        await gates.open("x")
        await end_of(app, running)


# hosts that stop and die


async def test_stopped_host_interrupts_what_runs_and_the_next_runs_again_what_may_be(tmp_path: Path) -> None:
    gates = new_gates("once", "again")
    async with host(tmp_path, server={"drain_timeout": 0.01}) as app:
        once, again = await submitted(app, "once"), await submitted(app, "again", "pack.long_again")
        await gates.until_begun("once")
        await gates.until_begun("again")
    gates = new_gates()
    async with host(tmp_path) as app:
        interrupted, repeated = await end_of(app, once), await end_of(app, again)
    assert (interrupted["status"], interrupted["attempt"]) == ("interrupted", 1)
    assert interrupted["error"]["type"] == "urn:base04:problem:outcome-unknown"
    assert (repeated["status"], repeated["attempt"]) == ("succeeded", 2)
    assert (gates.begun["once"], gates.begun["again"]) == (0, 1)


async def test_what_waited_when_the_host_stopped_is_run_by_the_next(tmp_path: Path) -> None:
    gates = new_gates("first")
    small = {"executor": {"inline": {"size": 1}}}
    async with host(tmp_path, managers=small, server={"drain_timeout": 0.01}) as app:
        await submitted(app, "first")
        waiting = await submitted(app, "waits")
        await gates.until_begun("first")
    gates = new_gates()
    async with host(tmp_path) as app:
        row = await end_of(app, waiting)
    assert (row["status"], row["attempt"], gates.begun["waits"]) == ("succeeded", 1, 1)


async def test_running_execution_may_end_while_the_host_drains(tmp_path: Path) -> None:
    gates = new_gates("x")
    async with host(tmp_path) as app:
        identity = await submitted(app, "x")
        await gates.until_begun("x")
        stopping = asyncio.create_task(app.stop())
        await app.executions.draining.wait()
        with pytest.raises(ManagerUnavailable):
            await submitted(app, "late")
        await gates.open("x")
        await stopping
    async with host(tmp_path) as app:
        assert (await app.executions.get(identity))["status"] == "succeeded"


async def left_behind(app: AppManager, identity: str, **changes: Any) -> None:
    """Make an execution look as if the process that runs it had died."""
    table: ExecutionTable = app.executions.table
    where = {"id": identity}
    assert await table.change(where, {"owner": "dead", "lease_until": 1.0, **changes})


async def test_execution_that_kills_its_process_again_and_again_is_given_up(tmp_path: Path) -> None:
    gates = new_gates("x")
    async with host(tmp_path, executions={"lease": "300ms", "max_attempts": 2}) as app:
        identity = await submitted(app, "x", "pack.long_again")
        for attempt in (1, 2):
            await gates.until_begun("x", attempt)
            with capture_logs():
                await left_behind(app, identity)
                await gates.until_cancelled("x", attempt)  # its owner notices
        row = await end_of(app, identity)
    assert (row["status"], row["attempt"]) == ("interrupted", 2)


async def test_lease_is_renewed_for_as_long_as_it_runs_and_progress_is_written(tmp_path: Path) -> None:
    gates = new_gates("x")
    async with host(tmp_path, executions={"lease": "200ms"}) as app:
        identity = await submitted(app, "x", steps=2)
        await gates.until_begun("x")
        table = app.executions.table
        first = await table.find(identity)
        assert first is not None
        async with asyncio.timeout(30):
            while (row := await table.find(identity)) and row["lease_until"] < first["lease_until"] + 1:
                await asyncio.sleep(0.01)
        assert row is not None
        assert (row["status"], row["progress"]["done"]) == ("running", 2)
        await gates.open("x")
        assert (await end_of(app, identity))["status"] == "succeeded"


async def test_cancellation_asked_for_at_another_process_reaches_the_one_that_runs_it(tmp_path: Path) -> None:
    gates = new_gates("x")
    async with host(tmp_path, executions={"lease": "200ms"}) as app:
        identity = await submitted(app, "x")
        await gates.until_begun("x")
        await app.executions.table.change({"id": identity}, {"cancel": True})
        assert (await end_of(app, identity))["status"] == "cancelled"


async def test_program_waits_for_a_background_action_and_it_is_recorded_as_any_run(app: AppManager) -> None:
    new_gates()
    with capture_logs(), pytest.raises(Conflict):
        await app.run_action("pack.long", {"name": "x", "end": "conflict"}, principal=ADA)
    rows, _ = await app.executions.query(ExecutionQuery())
    assert [(row["action"], row["status"], row["source"]) for row in rows] == [("pack.long", "failed", "program")]


async def test_table_of_an_earlier_release_gets_what_it_lacks(tmp_path: Path) -> None:
    earlier = dataclasses.replace(TABLE, columns=tuple(column for column in TABLE.columns if column.name != "trace"))

    async def create(database: DatabaseManager) -> None:
        await database.ensure_table(earlier)

    async with AppManager({"data_dir": str(tmp_path / "data")}, only=["database"]) as app:
        database = app.get_db_manager("read_write")
        await database.migrate("executions", (create,))
        table = ExecutionTable(database)
        row = {"id": "1", "action": "a.b", "status": "queued", "mode": "background", "created_at": 1.0}
        await table.add([{**row, "trace": "00-1"}])
        found = await table.find("1")
        assert found is not None
        assert found["trace"] == "00-1"
