"""The Python client against a server that says what the test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from typing import Any

import pytest

from base04.client import (
    ClientClosed,
    ClientSettings,
    ConnectionLost,
    Gap,
    NoAnswer,
    PresenceChange,
    Refused,
    RoomMessage,
    WebSocketClient,
)
from base04.client.inbox import Inbox
from base04.client.rooms import RoomEvent
from base04.client.settings import Backoff
from scripted_server import PATIENCE_S, Peer, ScriptedServer, scripted_server, token_that_ends

QUICK = ClientSettings(min_pause=0.01, max_pause=0.05)


@pytest.fixture
async def script() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as server:
        yield server


async def within(awaitable: Any) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        return await awaitable


class Connected:
    """A client and the server's side of its first connection."""

    def __init__(self, client: WebSocketClient, peer: Peer) -> None:
        self.client, self.peer = client, peer
        self.events = client.events()

    async def event(self) -> RoomEvent:
        event: RoomEvent = await within(anext(self.events))
        return event

    async def joined(self, room: str, offset: int, presence: bool = False, **more: Any) -> None:
        joining = asyncio.create_task(self.client.join(room, presence=presence))
        message = await self.peer.asked({"epoch": "E", "offset": offset, "recovered": True, **more})
        assert message == {"type": "join", "room": room, **({"presence": True} if presence else {})}
        assert await within(joining) is True


@pytest.fixture
async def connected(script: ScriptedServer) -> AsyncIterator[Connected]:
    client = WebSocketClient(script.url, "token", QUICK)
    entering = asyncio.create_task(client.__aenter__())
    peer = await (await script.next()).greet()
    await within(entering)
    yield Connected(client, peer)
    await client.aclose()


async def test_client_says_who_it_is_in_the_header(connected: Connected) -> None:
    assert connected.peer.token == "token"
    assert (connected.client.sid, connected.client.user_id) == ("s1", "ada")


async def test_events_come_with_sender_and_position(connected: Connected) -> None:
    await connected.joined("news", 4)
    await connected.peer.send(type="event", room="news", event="e", data=[1], sender="bob", epoch="E", offset=5)
    position = {"epoch": "E", "offset": 5}
    assert await connected.event() == RoomMessage("news", "e", [1], "bob", position)  # type: ignore[arg-type]  # a literal


async def test_event_that_came_before_is_dropped_and_one_that_is_missing_is_a_gap(connected: Connected) -> None:
    await connected.joined("news", 4)
    for offset in (5, 5, 3, 8, 9):
        await connected.peer.event("news", offset, offset)
    await connected.peer.event("news", None, "out of touch")
    heard = [await connected.event() for _ in range(5)]
    assert [event if isinstance(event, Gap) else getattr(event, "data", None) for event in heard] == [
        5,
        Gap("news"),
        8,
        9,
        "out of touch",
    ]


async def test_client_comes_back_with_its_positions_and_hears_what_it_missed(
    script: ScriptedServer, connected: Connected
) -> None:
    await connected.joined("news", 4)
    await connected.peer.event("news", 5, "before")
    assert getattr(await connected.event(), "data", None) == "before"
    await connected.peer.break_off()
    peer = await (await script.next()).greet("s2")
    message = await peer.receive()
    assert message["since"] == {"epoch": "E", "offset": 5}
    await peer.event("news", 6, "missed")
    await peer.send(type="ack", id=message["id"], result={"epoch": "E", "offset": 6, "recovered": True})
    await peer.event("news", 7, "after")
    assert [getattr(await connected.event(), "data", None) for _ in range(2)] == ["missed", "after"]
    assert connected.client.sid == "s2"


async def test_what_cannot_be_recovered_is_a_gap(script: ScriptedServer, connected: Connected) -> None:
    await connected.joined("news", 4)
    await connected.peer.close(1012)
    peer = await (await script.next()).greet()
    assert (await peer.asked({"epoch": "F", "offset": 2, "recovered": False}))["since"] == {"epoch": "E", "offset": 4}
    assert await connected.event() == Gap("news")
    await peer.event("news", 3, "new epoch", "F")
    assert getattr(await connected.event(), "data", None) == "new epoch"


async def test_gap_of_the_server_moves_the_position(script: ScriptedServer, connected: Connected) -> None:
    await connected.joined("news", 4)
    await connected.peer.send(type="gap", room="news", epoch="F", offset=0)
    assert await connected.event() == Gap("news")
    await connected.peer.event("news", 1, "first", "F")
    assert getattr(await connected.event(), "data", None) == "first"


async def test_presence_is_followed(connected: Connected) -> None:
    await connected.joined("news", 0, presence=True, users=["ada", "bob"])
    assert await connected.event() == PresenceChange("news", "users", None, ("ada", "bob"))
    await connected.peer.send(type="presence", room="news", event="leave", user_id="bob")
    await connected.peer.send(type="presence", room="news", event="join", user_id="eve")
    assert await connected.event() == PresenceChange("news", "leave", "bob", ("ada",))
    assert await connected.event() == PresenceChange("news", "join", "eve", ("ada", "eve"))
    assert connected.client.users("news") == ["ada", "eve"]


async def test_room_that_may_not_be_entered_is_an_error_and_forgotten(connected: Connected) -> None:
    joining = asyncio.create_task(connected.client.join("user_bob"))
    message = await connected.peer.receive()
    error = {"code": "forbidden", "message": "You may not.", "room": "user_bob"}
    await connected.peer.send(type="error", id=message["id"], error=error)
    with pytest.raises(Refused) as caught:
        await within(joining)
    assert (caught.value.code, caught.value.details) == ("forbidden", {"room": "user_bob"})
    assert connected.client.rooms == []


async def test_room_that_cannot_be_entered_again_just_now_is_asked_for_until_it_can(
    script: ScriptedServer, connected: Connected
) -> None:
    await connected.joined("news", 4)
    await connected.peer.close(1012)
    peer = await (await script.next()).greet()
    message = await peer.receive()
    error = {"code": "unavailable", "message": "Not now.", "retry_after": 0.01}
    await peer.send(type="error", id=message["id"], error=error)
    assert (await peer.asked({"epoch": "E", "offset": 4, "recovered": True}))["since"] == {"epoch": "E", "offset": 4}
    await peer.event("news", 5, "after")
    assert getattr(await connected.event(), "data", None) == "after"


async def test_room_that_may_not_be_entered_any_more_is_a_gap_and_forgotten(
    script: ScriptedServer, connected: Connected
) -> None:
    await connected.joined("news", 4)
    await connected.peer.close(1012)
    peer = await (await script.next()).greet()
    message = await peer.receive()
    await peer.send(type="error", id=message["id"], error={"code": "forbidden", "message": "Not any more."})
    assert await connected.event() == Gap("news")
    assert connected.client.rooms == []


async def test_calls_and_emits_are_answered(connected: Connected) -> None:
    calling = asyncio.create_task(connected.client.call("greetings.greet", {"name": "Ada"}))
    assert await connected.peer.asked("Hello") == {"type": "call", "action": "greetings.greet", "args": {"name": "Ada"}}
    assert await within(calling) == "Hello"
    emitting = asyncio.create_task(connected.client.emit(None, "double", 21))
    assert await connected.peer.asked(42) == {"type": "emit", "event": "double", "data": 21}
    assert await within(emitting) == 42
    leaving = asyncio.create_task(connected.client.leave("news"))
    assert await connected.peer.asked() == {"type": "leave", "room": "news"}
    await within(leaving)


async def test_connection_that_breaks_leaves_open_whether_a_call_was_done(connected: Connected) -> None:
    calling = asyncio.create_task(connected.client.call("slow"))
    await connected.peer.receive()
    await connected.peer.break_off()
    with pytest.raises(ConnectionLost):
        await within(calling)


async def test_call_without_an_answer_ends(connected: Connected) -> None:
    with pytest.raises(NoAnswer) as caught:
        await connected.client.call("slow", timeout_s=0.01)
    assert caught.value.sent


async def test_what_is_asked_between_connections_waits_for_the_next(
    script: ScriptedServer, connected: Connected
) -> None:
    script.refusals = [(HTTPStatus.SERVICE_UNAVAILABLE, "stopping")] * 3
    await connected.peer.close(1012)
    while connected.client.sid is not None:
        await asyncio.sleep(0)
    calling = asyncio.create_task(connected.client.call("later"))
    peer = await (await script.next()).greet()
    assert (await peer.asked("done"))["action"] == "later"
    assert await within(calling) == "done"


async def test_server_says_when_to_come_back(script: ScriptedServer) -> None:
    patient = ClientSettings(min_pause=1000.0, max_pause=1000.0)
    async with asyncio.timeout(PATIENCE_S):
        client = WebSocketClient(script.url, "token", patient)
        entering = asyncio.create_task(client.__aenter__())
        peer = await (await script.next()).greet()
        await entering
        await peer.send(type="reconnect", after=0.01)
        await peer.close(1012)
        await (await script.next()).greet()
        await client.aclose()


@pytest.mark.parametrize("code", [1000, 1003, 1009, 4400])
async def test_end_that_is_final_ends_the_client(connected: Connected, code: int) -> None:
    await connected.peer.close(code, "because")
    if code == 1000:
        with pytest.raises(StopAsyncIteration):
            await connected.event()
    else:
        with pytest.raises(ClientClosed) as caught:
            await connected.event()
        assert caught.value.code == code
        assert "because" in str(caught.value)
    with pytest.raises(ClientClosed):
        await connected.client.call("anything")
    with pytest.raises(ClientClosed):
        await connected.client.join("anywhere")


async def test_token_that_ended_is_replaced(script: ScriptedServer) -> None:
    tokens = iter(["first", "second"])
    client = WebSocketClient(script.url, lambda: next(tokens), QUICK)
    entering = asyncio.create_task(client.__aenter__())
    peer = await (await script.next()).greet()
    await within(entering)
    await peer.close(4410)
    peer = await script.next()
    assert peer.token == "second"
    await client.aclose()


async def test_token_that_was_refused_is_not_tried_again(script: ScriptedServer) -> None:
    script.refusals = [(HTTPStatus.UNAUTHORIZED, "no")]
    client = WebSocketClient(script.url, lambda: "the only one", QUICK)
    with pytest.raises(ClientClosed) as caught:
        await within(client.__aenter__())
    assert caught.value.code == 4401


async def test_token_is_renewed_in_time_on_the_same_connection(script: ScriptedServer) -> None:
    tokens = [token_that_ends(3600, "second"), token_that_ends(0.1, "first")]
    second = tokens[0]
    async with asyncio.timeout(PATIENCE_S):
        client = WebSocketClient(script.url, tokens.pop, QUICK)
        entering = asyncio.create_task(client.__aenter__())
        peer = await (await script.next()).greet()
        await entering
        message = await peer.receive()
        assert message["type"] == "auth"
        assert message["token"] == second
        await peer.send(type="auth_ok", id=message["id"], sid="s1", user_id="ada")
        await client.aclose()


async def test_token_that_cannot_be_had_is_asked_for_again(script: ScriptedServer) -> None:
    answers: Iterator[OSError | str] = iter([OSError("the issuer is away"), "token"])

    async def token() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    client = WebSocketClient(script.url, token, QUICK)
    entering = asyncio.create_task(client.__aenter__())
    await (await script.next()).greet()
    await within(entering)
    await client.aclose()


async def test_program_that_reads_too_slowly_hears_of_a_gap() -> None:
    inbox = Inbox(2)
    inbox.put([RoomMessage("a", "e", 1), RoomMessage("a", "e", 2), RoomMessage("a", "e", 3), RoomMessage("b", "e", 4)])
    inbox.end(None)
    assert [event async for event in inbox.read()] == [
        RoomMessage("a", "e", 1),
        RoomMessage("a", "e", 2),
        Gap("a"),
        Gap("b"),
    ]


def test_pauses_double_up_to_a_limit_and_have_chance_in_them() -> None:
    backoff = Backoff(ClientSettings(min_pause=1.0, max_pause=5.0))
    for pause in (1.0, 2.0, 4.0, 5.0, 5.0):
        assert pause / 2 <= backoff.next() <= pause
    backoff.reset()
    assert backoff.next() <= 1.0
