from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from structlog.testing import capture_logs

from base04.actions.idempotency import TABLE, RequestKey
from base04.app_manager import AppManager
from base04_hookspecs.context import ANONYMOUS, Principal, RequestContext
from execution_kit import client, host, key_for, new_gates, settings

KEY = '"key-1"'


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[AppManager]:
    async with host(tmp_path) as manager:
        yield manager


async def post(http: httpx.AsyncClient, action: str = "pack.work", key: str = KEY, **args: Any) -> httpx.Response:
    body = {"name": "x", **args}
    return await http.post(f"/actions/{action}", json=body, headers={"idempotency-key": key})


async def rows(app: AppManager) -> list[dict[str, Any]]:
    return await app.get_db_manager().find(TABLE.name)


async def left_running(app: AppManager, **changes: Any) -> None:
    """Make the one request that was answered look as if its process had died before that."""
    [row] = await rows(app)
    data = {"status": "running", "owner": "dead", "lease_until": 1.0, "answer_status": None, "answer": None, **changes}
    await app.get_db_manager().execute_transaction(
        [{"type": "update", "table": TABLE.name, "where": {"id": row["id"]}, "data": data, "expect": 1}]
    )


async def test_same_key_and_body_get_the_stored_answer_and_run_once(app: AppManager) -> None:
    gates = new_gates()
    async with client(app) as http:
        first, second = await post(http), await post(http)
        other = await post(http, key="key-2")
    assert (first.status_code, first.json()) == (200, {"name": "x", "times": 1})
    assert (second.status_code, second.content) == (200, first.content)
    assert second.headers["content-type"] == "application/json"
    assert ("idempotent-replayed" in first.headers, second.headers["idempotent-replayed"]) == (False, "true")
    assert other.json() == {"name": "x", "times": 2}
    assert gates.begun["x"] == 2


async def test_key_in_quotes_and_without_is_the_same_and_order_of_members_does_not_matter(app: AppManager) -> None:
    gates = new_gates()
    async with client(app) as http:
        for key, body in (('"k"', '{"name": "x", "steps": 1}'), ("k", '{"steps": 1,"name": "x"}')):
            headers = {"idempotency-key": key, "content-type": "application/json"}
            assert (await http.post("/actions/pack.work", content=body, headers=headers)).status_code == 200
    assert gates.begun["x"] == 1


async def test_same_key_with_another_body_is_refused(app: AppManager) -> None:
    new_gates()
    async with client(app) as http:
        await post(http)
        answer = await post(http, name="y")
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:base04:problem:invalid-input")
    assert "used for a request with another body" in answer.json()["detail"]


async def test_key_belongs_to_the_caller_and_the_action(app: AppManager) -> None:
    gates = new_gates()
    async with client(app) as http:
        ada, bob = await key_for(app, "ada"), await key_for(app, "bob")
        for headers in (ada, bob, {}):
            for action in ("pack.work", "pack.again"):
                answer = await http.post(
                    f"/actions/{action}", json={"name": "x"}, headers={**headers, "idempotency-key": KEY}
                )
                assert answer.status_code == 200
    assert gates.begun["x"] == 6


def test_strangers_are_told_apart_by_their_address() -> None:
    def key(principal: Principal, address: str | None) -> str:
        return RequestKey.of(RequestContext("r", principal, address, "http", "a.b"), "k", {}).id

    assert key(ANONYMOUS, "192.0.2.1") != key(ANONYMOUS, "192.0.2.2")
    assert key(ANONYMOUS, "2001:db8::1") == key(ANONYMOUS, "2001:db8::2")
    assert key(Principal("ada", (), "token"), "192.0.2.1") == key(Principal("ada", (), "api_key", "k1"), "192.0.2.2")
    assert key(Principal("192.0.2.1", (), "token"), None) != key(ANONYMOUS, "192.0.2.1")


async def test_request_that_still_runs_is_a_conflict(app: AppManager) -> None:
    gates = new_gates("x")
    async with client(app) as http:
        first = asyncio.create_task(post(http))
        await gates.until_begun("x")
        second = await post(http)
        assert (second.status_code, second.json()["type"]) == (409, "urn:base04:problem:conflict")
        assert "still being processed" in second.json()["detail"]
        await gates.open("x")
        assert (await first).status_code == 200
    assert gates.begun["x"] == 1


async def test_two_that_come_at_once_run_once(app: AppManager) -> None:
    gates = new_gates()
    async with client(app) as http:
        answers = await asyncio.gather(*(post(http) for _ in range(8)))
    assert gates.begun["x"] == 1
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert 200 in {answer.status_code for answer in answers}


@pytest.mark.parametrize(("end", "status"), [("conflict", 409), ("a bug", 500), ("exit", 500), ("unavailable", 503)])
async def test_failure_of_what_had_begun_is_kept(app: AppManager, end: str, status: int) -> None:
    gates = new_gates()
    async with client(app) as http:
        with capture_logs():
            first, second = await post(http, end=end), await post(http, end=end)
    assert (first.status_code, second.status_code) == (status, status)
    assert first.json() == second.json()
    assert gates.begun["x"] == 1


async def test_what_may_be_tried_again_is_run_again(app: AppManager) -> None:
    gates = new_gates()
    async with client(app) as http:
        for _ in range(2):
            assert (await post(http, "pack.again", end="unavailable")).status_code == 503
    assert gates.begun["x"] == 2
    assert await rows(app) == []


async def test_what_never_began_uses_no_key_up(app: AppManager) -> None:
    gates = new_gates("x")
    async with client(app) as http:
        assert (await post(http, steps="many")).status_code == 422
        first = asyncio.create_task(post(http, "pack.once_at_a_time", key="a"))
        await gates.until_begun("x")
        assert (await post(http, "pack.once_at_a_time", key="b")).status_code == 503
        await gates.open("x")
        assert (await first).status_code == 200
        assert (await post(http, "pack.once_at_a_time", key="b")).status_code == 200


async def test_cancelled_request_is_not_known_to_have_run_and_one_that_does_no_harm_may_run_again(
    app: AppManager,
) -> None:
    gates = new_gates("x")
    async with client(app) as http:
        for action in ("pack.work", "pack.again"):
            task = asyncio.create_task(post(http, action))
            await gates.until_begun("x", 1 if action == "pack.work" else 2)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await gates.open("x")
        unknown, repeated = await post(http), await post(http, "pack.again")
    assert (unknown.status_code, unknown.json()["type"]) == (502, "urn:base04:problem:outcome-unknown")
    assert repeated.status_code == 200


async def test_background_request_gets_the_same_execution_again(app: AppManager) -> None:
    gates = new_gates()
    async with client(app) as http:
        first, second = await post(http, "pack.long_again"), await post(http, "pack.long_again")
        assert (first.status_code, second.status_code) == (202, 202)
        assert first.headers["location"] == second.headers["location"]
        await app.executions.ended(first.json()["id"], 30)
    assert gates.begun["x"] == 1


async def test_dry_run_uses_no_key_up(app: AppManager) -> None:
    gates = new_gates()
    async with client(app) as http:
        headers = {"idempotency-key": KEY}
        dry = await http.post("/actions/pack.work?dry_run=true", json={"name": "x"}, headers=headers)
        assert dry.json() == {
            "action": "pack.work",
            "dry_run": True,
            "arguments": {"name": "x", "steps": 0, "end": ""},
        }
        assert gates.begun["x"] == 0
        assert (await post(http)).json() == {"name": "x", "times": 1}


@pytest.mark.parametrize("key", ['""', '"a', '"a" b', "a b", "x" * 256, "a,b\x00"])
async def test_key_that_is_not_one_text_is_refused(app: AppManager, key: str) -> None:
    async with client(app) as http:
        headers = httpx.Headers([(b"idempotency-key", key.encode("latin-1"))])
        answer = await http.post("/actions/pack.work", json={"name": "x"}, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:base04:problem:the-request-is-malformed")


async def test_request_whose_process_died_is_unknown_for_good(app: AppManager) -> None:
    gates = new_gates()
    async with client(app) as http:
        await post(http)
        await left_running(app)
        answers = [await post(http) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [502, 502]
    assert answers[0].json()["type"] == "urn:base04:problem:outcome-unknown"
    assert "use a new Idempotency-Key" in answers[0].json()["detail"]
    assert gates.begun["x"] == 1


async def test_request_whose_process_died_runs_again_where_that_does_no_harm(app: AppManager) -> None:
    gates = new_gates()
    async with client(app) as http:
        await post(http, "pack.again")
        await left_running(app)
        assert [(await post(http, "pack.again")).json() for _ in range(2)] == [{"name": "x", "times": 2}] * 2
    assert gates.begun["x"] == 2


async def test_answer_that_has_expired_is_forgotten(app: AppManager) -> None:
    gates = new_gates()
    async with client(app) as http:
        await post(http)
        await left_running(app, status="done", expires_at=time.time() - 1)
        await post(http)
        assert gates.begun["x"] == 2
        await left_running(app, status="done", expires_at=time.time() - 1)
        assert await app.idempotency.sweep() == 1
    assert await rows(app) == []


async def test_lease_is_renewed_for_as_long_as_the_request_runs(tmp_path: Path) -> None:
    gates = new_gates("x")
    async with host(tmp_path, executions={"lease": "200ms"}) as app, client(app) as http:
        first = asyncio.create_task(post(http))
        await gates.until_begun("x")
        [begun] = await rows(app)
        async with asyncio.timeout(30):
            while (await rows(app))[0]["lease_until"] < begun["lease_until"] + 0.5:
                await asyncio.sleep(0.01)
        assert (await post(http)).status_code == 409
        await gates.open("x")
        assert (await first).status_code == 200


async def test_answers_are_kept_across_restarts(tmp_path: Path) -> None:
    gates = new_gates()
    async with host(tmp_path) as app, client(app) as http:
        await post(http)
    async with host(tmp_path) as app, client(app) as http:
        assert (await post(http)).json() == {"name": "x", "times": 1}
    assert gates.begun["x"] == 1


async def test_without_a_database_a_key_promises_nothing_and_is_refused(tmp_path: Path) -> None:
    gates = new_gates()
    async with AppManager(settings(tmp_path), only=["action_discovery"]) as app, client(app) as http:
        answer = await post(http)
        assert (answer.status_code, "needs the database" in answer.json()["detail"]) == (503, True)
        assert (await http.post("/actions/pack.work", json={"name": "x"})).status_code == 200
    assert gates.begun["x"] == 1
