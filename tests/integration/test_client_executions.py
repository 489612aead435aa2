"""``base04.client`` and executions in the background."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from base04.client import ActionsClient, AsyncActionsClient, ExecutionCancelled, UnexpectedAnswer
from base04.testing.proxy import FaultyProxy
from base04_hookspecs.errors import ActionFailed, Conflict, ManagerUnavailable, NotFound
from serve_kit import PATIENCE_S, Server, write

PACK = """
pack: desk
version: 1.0.0
actions:
  count: {handler: '.handlers:count', access: public, mode: background, parameters: {to: {type: integer}}, required: [to]}
  wait: {handler: '.handlers:wait', access: public, mode: background}
  raises: {handler: '.handlers:raises', access: public, parameters: {kind: {type: string}}, required: [kind]}
  known: {handler: '.handlers:known'}
"""  # noqa: E501 - one line for each action

HANDLERS = """
import asyncio
from base04_hookspecs import errors
from base04_hookspecs.action_discovery import ActionContext

async def count(to, context: ActionContext):
    for number in range(to):
        context.progress(number, to, f"at {number}")
        await asyncio.sleep(0.05)
    return {"counted": to}

async def wait(): await asyncio.sleep(60)

async def raises(kind):
    raise getattr(errors, kind)("as you wish")

async def known(): return "yes"
"""


@dataclass
class Counted:
    counted: int


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


def test_action_in_the_background_is_followed_to_its_end(client: ActionsClient) -> None:
    assert client.run("desk.count", {"to": 2}, returns=Counted) == Counted(2)
    execution = client.submit("desk.count", {"to": 3})
    assert execution.info["status"] in ("queued", "running")
    seen = [info["progress"]["message"] for info in execution.follow() if info["progress"]]
    assert seen[-1] == "at 2"
    assert (execution.info["status"], execution.result(Counted)) == ("succeeded", Counted(3))
    assert client.execution(execution.id).result() == {"counted": 3}
    with pytest.raises(UnexpectedAnswer, match="is no int"):
        execution.result(int)


def test_what_went_wrong_is_the_error_that_a_caller_who_waited_would_get(client: ActionsClient) -> None:
    with pytest.raises(Conflict, match="as you wish") as caught:
        client.submit("desk.raises", {"kind": "Conflict"}).result()
    assert any(note.startswith("execution ") for note in caught.value.__notes__)
    with pytest.raises(ActionFailed):
        client.submit("desk.raises", {"kind": "no such error"}).result()


def test_waiting_ends_and_the_execution_goes_on_until_it_is_cancelled(client: ActionsClient) -> None:
    execution = client.submit("desk.wait")
    with pytest.raises(TimeoutError, match="goes on"):
        execution.result(timeout_s=0.2)
    assert client.execution(execution.id).info["status"] == "running"
    execution.cancel()
    with pytest.raises(ExecutionCancelled):
        execution.result(timeout_s=PATIENCE_S)
    assert execution.cancel()["status"] == "cancelled"


def test_executions_are_listed_page_by_page_and_others_see_none(client: ActionsClient, server: Server) -> None:
    with pytest.raises(NotFound):
        client.execution("0" * 46)
    with ActionsClient(server.url, api_key=server.admin_key) as admin:
        made = [admin.submit("desk.known").id for _ in range(5)]
        listed = [info["id"] for info in admin.executions(action="desk.known", mode="background", limit=2)]
        assert sorted(listed) == sorted(made)
    with server.admin() as http:
        key = http.post("/api-keys", json={"user_id": "bob", "permissions": []}).json()["api_key"]
    with ActionsClient(server.url, api_key=key) as bob:
        assert list(bob.executions()) == []
        with pytest.raises(NotFound):
            bob.execution(made[0])


async def test_stream_that_breaks_is_asked_for_again(server: Server) -> None:
    address = urlsplit(server.url)
    async with (
        FaultyProxy((str(address.hostname), int(address.port or 0))) as proxy,
        AsyncActionsClient(f"http://127.0.0.1:{proxy.port}") as client,
    ):
        execution = await client.submit("desk.count", {"to": 20})
        heard = 0
        async for _ in execution.follow():
            heard += 1
            if heard == 2:
                proxy.cut()
        assert heard > 2
        assert await execution.result(Counted) == Counted(20)


async def test_host_that_stays_away_is_told(server: Server) -> None:
    address = urlsplit(server.url)
    async with (
        FaultyProxy((str(address.hostname), int(address.port or 0))) as proxy,
        AsyncActionsClient(f"http://127.0.0.1:{proxy.port}", timeout_s=0.5) as client,
    ):
        execution = await client.submit("desk.wait")
        await proxy.refuse()
        with pytest.raises(ManagerUnavailable, match="cannot be reached"):
            await asyncio.wait_for(execution.result(), PATIENCE_S)
        await proxy.pass_all()
        await execution.cancel()
        with pytest.raises(ExecutionCancelled):
            await execution.result()


def test_several_threads_follow_with_one_client(client: ActionsClient) -> None:
    results: list[Counted] = []
    threads = [
        threading.Thread(target=lambda to=to: results.append(client.run("desk.count", {"to": to}, returns=Counted)))
        for to in range(1, 4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(item.counted for item in results) == [1, 2, 3]
