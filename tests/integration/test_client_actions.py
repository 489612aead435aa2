"""``base04.client``: typed results, and the errors that handlers raise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from typing_extensions import TypedDict

from base04.client import ActionsClient, AsyncActionsClient, UnexpectedAnswer
from base04_hookspecs.errors import (
    ActionFailed,
    ActionTimeout,
    AuthenticationError,
    Conflict,
    InvalidInput,
    ManagerUnavailable,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    RateLimited,
    UnknownAction,
)
from serve_kit import Server, write

PACK = """
pack: desk
version: 1.0.0
actions:
  add: {handler: '.handlers:add', access: public, parameters: {a: {type: integer}, b: {type: integer}}, required: [a, b], idempotent: true}
  nothing: {handler: '.handlers:nothing', access: public}
  raises: {handler: '.handlers:raises', access: public, parameters: {kind: {type: string}}, required: [kind]}
  slow: {handler: '.handlers:slow', access: public, timeout: 50ms}
  known: {handler: '.handlers:nothing'}
  guarded: {handler: '.handlers:nothing', access: {permissions: [desk.use]}}
  rare: {handler: '.handlers:nothing', access: public, rate_limit: 1/hour}
"""  # noqa: E501 - one line for each action

HANDLERS = """
import asyncio
from base04_hookspecs import errors

calls = 0

async def add(a, b):
    global calls
    calls += 1
    return {"sum": a + b, "calls": calls}

async def nothing(): return None
async def slow(): await asyncio.sleep(60)

async def raises(kind):
    raise getattr(errors, kind)("as you wish")
"""


@dataclass
class Sum:
    sum: int
    calls: int


class SumDict(TypedDict):
    sum: int


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("client")
    write(folder / "actions" / "desk.yaml", PACK)
    write(folder / "actions" / "handlers.py", HANDLERS)
    with Server(folder, settings="managers: {action_discovery: {folders: [actions]}}\n") as server:
        yield server
        assert server.stop() == 0


@pytest.fixture
def client(server: Server) -> Iterator[ActionsClient]:
    with ActionsClient(server.url) as client:
        yield client


def test_result_is_json_or_the_type_that_is_asked_for(client: ActionsClient) -> None:
    assert client.run("desk.add", {"a": 1, "b": 2})["sum"] == 3
    total = client.run("add", {"a": 1, "b": 2}, returns=Sum)
    assert isinstance(total, Sum)
    assert total.sum == 3
    assert client.run("desk.add", {"a": 2, "b": 2}, returns=SumDict)["sum"] == 4
    assert client.run("desk.nothing") is None
    assert "desk.add" in client.actions()


def test_result_of_another_type_is_refused(client: ActionsClient) -> None:
    with pytest.raises(UnexpectedAnswer, match="is no int"):
        client.run("desk.add", {"a": 1, "b": 2}, returns=int)


def test_request_that_is_sent_again_under_its_key_is_not_run_again(client: ActionsClient) -> None:
    first = client.run("desk.add", {"a": 5, "b": 5}, key='say "once"', returns=Sum)
    assert client.run("desk.add", {"a": 5, "b": 5}, key='say "once"', returns=Sum) == first


def test_all_faults_of_arguments_come_back(client: ActionsClient) -> None:
    with pytest.raises(InvalidInput) as caught:
        client.run("desk.add", {"a": "x"})
    assert {fault.pointer for fault in caught.value.faults} == {"/a", "/b"}
    assert caught.value.__notes__[0].startswith("request id ")


@pytest.mark.parametrize("kind", [NotFound, Conflict, InvalidInput, ManagerUnavailable, OutcomeUnknown])
def test_error_of_a_handler_is_the_callers(client: ActionsClient, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="as you wish"):
        client.run("desk.raises", {"kind": kind.__name__})


def test_refusals_are_told_apart(client: ActionsClient, server: Server) -> None:
    with pytest.raises(UnknownAction) as unknown:
        client.run("desk.ad")
    assert "desk.add" in unknown.value.matches
    with pytest.raises(ActionTimeout):
        client.run("desk.slow")
    with pytest.raises(AuthenticationError):
        client.run("desk.known")
    with pytest.raises(ActionFailed):
        client.run("desk.raises", {"kind": "no such error"})
    client.run("desk.rare")
    with pytest.raises(RateLimited) as limited:
        client.run("desk.rare")
    assert limited.value.retry_after > 0
    with server.admin() as admin:
        key = admin.post("/api-keys", json={"user_id": "bob", "permissions": []}).json()["api_key"]
    with ActionsClient(server.url, api_key=key) as bob:
        assert bob.run("desk.known") is None
        with pytest.raises(PermissionDenied) as denied:
            bob.run("desk.guarded")
    assert denied.value.missing == ("desk.use",)


def test_host_that_is_not_there_is_unavailable() -> None:
    with ActionsClient("http://127.0.0.1:9") as nobody, pytest.raises(ManagerUnavailable):
        nobody.run("desk.add")


def test_answer_that_does_not_come_leaves_the_outcome_unknown(server: Server) -> None:
    with ActionsClient(server.url, timeout_s=0.001) as hasty, pytest.raises((OutcomeUnknown, ManagerUnavailable)):
        hasty.run("desk.slow")


async def test_client_can_be_awaited(server: Server) -> None:
    async with AsyncActionsClient(server.url, api_key=server.admin_key) as client:
        assert (await client.run("desk.add", {"a": 1, "b": 2}, returns=Sum)).sum == 3
        assert "desk.guarded" in await client.actions()
        with pytest.raises(UnknownAction):
            await client.run("nothing.there")
    async with AsyncActionsClient("http://127.0.0.1:9") as nobody:
        with pytest.raises(ManagerUnavailable):
            await nobody.run("desk.add")
