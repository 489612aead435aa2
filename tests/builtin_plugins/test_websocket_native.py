"""The provider ``native`` against a real uvicorn server and real clients."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from starlette.applications import Starlette
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from base04.testing.conformance.websocket import WebSocketConformance
from base04.testing.conformance.websocket_client import Connect, Refused, within
from base04_builtin.websocket.native import NativeWebSocketManager
from base04_builtin.websocket.settings import NativeSettings
from base04_hookspecs import current_request
from base04_hookspecs.errors import (
    ActionFailed,
    Fault,
    InvalidInput,
    ManagerUnavailable,
    RateLimited,
    UnknownAction,
)
from websocket_kit import Site, TableJWT, eventually, masked, raw_client, read_frame, serving, site


class TestConformance(WebSocketConformance):
    capabilities = frozenset({"presence", "recovery", "shared"})

    @pytest.fixture
    async def served(self) -> AsyncIterator[Site]:
        async with site() as place:
            yield place

    @pytest.fixture
    def manager(self, served: Site) -> NativeWebSocketManager:
        return served.manager

    @pytest.fixture
    def connect(self, served: Site) -> Connect:
        return served.connect


# The handshake


async def test_token_in_the_header_authenticates() -> None:
    async with site() as place:
        client = await place.connect("ada")
        assert client.user_id == "ada"
        assert client.socket.subprotocol is None


async def test_token_in_a_subprotocol_authenticates_and_is_not_echoed() -> None:
    async with site() as place:
        token = place.jwt.issue("ada")
        client = await place.open(subprotocols=[Subprotocol("base04.v1"), Subprotocol(f"bearer.{token}")])
        assert client.socket.subprotocol == "base04.v1"
        assert (await client.greeted()).user_id == "ada"


async def test_token_in_the_first_message_authenticates() -> None:
    async with site() as place:
        client = await place.open()
        await client.send(type="auth", token=place.jwt.issue("ada"), id="hello")
        answer = await client.receive()
        assert answer == {"type": "auth_ok", "id": "hello", "sid": answer["sid"], "user_id": "ada"}


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ({"type": "auth", "token": "nonsense"}, 4401),
        ({"type": "auth"}, 4401),
        ({"type": "auth", "token": 7}, 4401),
        ({"type": "auth", "token": "nön-ÄSCII"}, 4401),
        ({"type": "join", "room": "news"}, 4401),
        ([], 4400),
    ],
)
async def test_first_message_without_a_valid_token_ends_the_connection(first: Any, code: int) -> None:
    async with site() as place:
        client = await place.open()
        await client.socket.send(json.dumps(first))
        assert (await client.ending())[0] == code
        await eventually(lambda: nothing_left(place))


async def nothing_left(place: Site) -> bool:
    return (await place.manager.health_check())["metrics"]["connections"] == 0


async def test_client_that_never_authenticates_is_closed() -> None:
    async with site(auth_timeout=0.05) as place:
        client = await place.open()
        assert await client.ending() == (4408, "unauthenticated")
        assert await place.manager.list_sessions() == []


async def test_invalid_token_in_the_header_is_a_real_401(caplog: pytest.LogCaptureFixture) -> None:
    async with site() as place:
        with pytest.raises(InvalidStatus) as caught:
            await place.open("nonsense")
        assert caught.value.response.status_code == 401
        assert caught.value.response.headers["WWW-Authenticate"] == "Bearer"
        await eventually(lambda: nothing_left(place))
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_invalid_token_in_a_subprotocol_is_a_close_code_that_scripts_see() -> None:
    async with site() as place:
        client = await place.open(subprotocols=[Subprotocol("base04.v1"), Subprotocol("bearer.nonsense")])
        assert await client.ending() == (4401, "unauthenticated")


async def test_token_in_the_url_is_refused() -> None:
    async with site() as place:
        token = place.jwt.issue("ada")
        with pytest.raises(InvalidStatus) as caught:
            await place.open(url=f"{place.url}?token={token}")
        assert caught.value.response.status_code == 400
        assert token.encode() not in caught.value.response.body


@pytest.mark.parametrize(
    ("token", "subprotocols"),
    [(True, ["base04.v1", "bearer.x"]), (False, ["base04.v1", "bearer.x", "bearer.y"]), (False, ["bearer.x"])],
)
async def test_more_or_less_than_one_credential_is_refused(token: bool, subprotocols: list[str]) -> None:
    async with site() as place:
        with pytest.raises(InvalidStatus) as caught:
            await place.open(
                place.jwt.issue("ada") if token else None, subprotocols=[Subprotocol(name) for name in subprotocols]
            )
        assert caught.value.response.status_code == 400


@pytest.mark.parametrize(
    ("allowed", "origin", "status"),
    [
        (["self"], "http://{host}", 101),
        (["self"], "http://evil.example", 403),
        (["self"], "http://127.0.0.1", 403),
        (["self"], "null", 403),
        (["self"], "http://{host}.evil.example", 403),
        (["self"], "http://127.0.0.1:notaport", 403),
        (["https://app.example"], "https://app.example", 101),
        (["https://app.example"], "https://APP.example", 101),
        (["https://app.example"], "http://app.example", 403),
        (["https://app.example"], "http://{host}", 403),
        (["*"], "http://evil.example", 101),
    ],
)
async def test_origin_is_checked_before_accepting(allowed: list[str], origin: str, status: int) -> None:
    async with site(allowed_origins=allowed) as place:
        value = Origin(origin.format(host=place.host))
        if status == 101:
            assert (await place.connect("ada", origin=value)).user_id == "ada"
        else:
            with pytest.raises(InvalidStatus) as caught:
                await place.connect("ada", origin=value)
            assert caught.value.response.status_code == status
            assert b"origin" in caught.value.response.body


async def test_refusal_without_the_http_response_extension_is_a_close_before_accepting() -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    manager = NativeWebSocketManager(NativeSettings(), TableJWT(), None)
    await manager.start()
    scope = {"type": "websocket", "headers": [(b"origin", b"http://evil.example"), (b"host", b"here.example")]}
    await manager.handle(scope, receive, send)
    await manager.stop()
    assert [message["type"] for message in sent] == ["websocket.close"]


@pytest.mark.parametrize("origin", ["app.example", "https://app.example/", "https://app.example/path", ""])
def test_origin_that_could_never_match_is_a_settings_error(origin: str) -> None:
    with pytest.raises(ValueError, match="allowed origin"):
        NativeSettings(allowed_origins=(origin,))


async def test_too_many_connections_are_refused() -> None:
    async with site(max_connections=1) as place:
        await place.connect("ada")
        with pytest.raises(InvalidStatus) as caught:
            await place.connect("bob")
        assert caught.value.response.status_code == 503
        assert caught.value.response.headers["Retry-After"] == "5"


@pytest.mark.parametrize(
    ("failure", "status", "code"), [(ManagerUnavailable("down"), 503, 1013), (RuntimeError("broken"), 500, 1011)]
)
async def test_failing_token_check_refuses_before_and_closes_after_accepting(
    failure: Exception, status: int, code: int
) -> None:
    async with site() as place:
        place.jwt.failure = failure
        with pytest.raises(InvalidStatus) as caught:
            await place.open("token")
        assert caught.value.response.status_code == status
        client = await place.open()
        await client.send(type="auth", token="token")
        assert await client.closed() == code
        assert (await place.manager.health_check())["metrics"]["errors"] == (1 if code == 1011 else 0)


# Tokens in the course of a connection


async def test_connection_is_closed_when_its_token_expires_unless_it_was_renewed() -> None:
    async with site() as place:
        soon = time.time() + 1.5
        renewed = await (await place.open(place.jwt.issue("ada", exp=soon))).greeted()
        await renewed.join("news")
        expiring = await (await place.open(place.jwt.issue("ada", exp=soon))).greeted()
        await renewed.send(type="auth", token=place.jwt.issue("ada"), id=7)
        assert await renewed.receive() == {"type": "auth_ok", "id": 7, "sid": renewed.sid, "user_id": "ada"}
        assert await expiring.closed() == 4410
        assert time.time() >= soon
        assert (await place.manager.get_room_info("news"))["users"] == ["ada"]
        await renewed.join("other")


async def test_token_of_another_user_or_of_nobody_changes_nothing() -> None:
    async with site() as place:
        client = await place.connect("ada")
        with pytest.raises(Refused, match="forbidden"):
            await client.ask(type="auth", token=place.jwt.issue("eve"))
        with pytest.raises(Refused, match="unauthenticated"):
            await client.ask(type="auth", token="nonsense")
        assert [info["user_id"] for info in await place.manager.list_sessions()] == ["ada"]


@pytest.mark.parametrize(
    "message", [{"type": "join", "room": "a"}, {"type": "emit", "event": "e"}, {"type": "call", "action": "a"}]
)
async def test_revoked_token_ends_the_connection_at_its_next_message(message: dict[str, Any]) -> None:
    async with site(revocation_interval=0) as place:
        token = place.jwt.issue("ada")
        client = await (await place.open(token)).greeted()
        await client.join("news")
        await place.jwt.blacklist_token(token)
        await client.send(**message)
        assert await client.ending() == (4411, "unauthenticated")


async def test_revoked_token_ends_an_idle_connection() -> None:
    async with site(revocation_interval=0.02) as place:
        token = place.jwt.issue("ada")
        client, other = await (await place.open(token)).greeted(), await place.connect("bob")
        await place.jwt.blacklist_token(token)
        assert await client.closed() == 4411
        await other.join("still here")


async def test_message_is_not_acted_upon_while_revocation_cannot_be_checked() -> None:
    async with site(revocation_interval=0) as place:
        client = await place.connect("ada")
        place.jwt.failure = ManagerUnavailable("down")
        with pytest.raises(Refused, match="unavailable"):
            await client.join("news")
        place.jwt.failure = None
        await client.join("news")


# Messages


async def test_messages_without_id_are_not_acknowledged() -> None:
    async with site() as place:
        client = await place.connect("ada")
        await client.send(type="join", room="news")
        await client.send(type="ping")
        assert await client.receive() == {"type": "pong"}
        await client.send(type="ping", id="p")
        assert await client.receive() == {"type": "ack", "id": "p", "result": None}
        assert (await place.manager.get_room_info("news"))["users"] == ["ada"]


async def test_event_of_a_client_names_its_sender_and_that_of_the_server_nobody() -> None:
    async with site() as place:
        client = await place.connect("ada")
        await client.join("chat")
        await client.emit("chat", "line", [1])
        message = await client.event_message()
        expected = {"type": "event", "room": "chat", "event": "line", "data": [1], "epoch": message["epoch"]}
        assert message == {**expected, "sender": "ada", "offset": 1}
        await place.manager.emit_to_room("chat", "line", [1])
        assert await client.event_message() == {**expected, "offset": 2}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "nonsense"}, "unknown_type"),
        ({"type": ["join"]}, "unknown_type"),
        ({}, "unknown_type"),
        ({"type": "join"}, "invalid_message"),
        ({"type": "join", "room": ""}, "invalid_message"),
        ({"type": "join", "room": "x" * 201}, "invalid_message"),
        ({"type": "join", "room": "line\nbreak"}, "invalid_message"),
        ({"type": "join", "room": {"a": 1}}, "invalid_message"),
        ({"type": "emit", "room": "news"}, "invalid_message"),
        ({"type": "emit", "event": "nobody answers"}, "unknown_event"),
        ({"type": "call", "action": "a", "args": [1]}, "invalid_message"),
        ({"type": "call", "action": "a"}, "unavailable"),
        ({"type": "auth"}, "invalid_message"),
    ],
)
async def test_malformed_message_is_refused_and_the_connection_goes_on(message: dict[str, Any], code: str) -> None:
    async with site() as place:
        client = await place.connect("ada")
        with pytest.raises(Refused, match=code):
            await client.ask(**message)
        await client.join("news")


@pytest.mark.parametrize("bad", [[1], {"a": 1}, True, 1.5, "x" * 129])
async def test_id_that_cannot_be_used_is_refused_without_one(bad: Any) -> None:
    async with site() as place:
        client = await place.connect("ada")
        await client.send(type="ping", id=bad)
        answer = await client.receive()
        assert (answer["type"], answer["id"], answer["error"]["code"]) == ("error", None, "invalid_message")


async def test_rooms_of_one_connection_are_limited() -> None:
    async with site(max_rooms_per_connection=2) as place:
        client = await place.connect("ada")
        await client.join("a")
        await client.join("b")
        with pytest.raises(Refused, match="too_many_rooms"):
            await client.join("c")
        await client.leave("a")
        await client.join("c")


# Calls


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (
            InvalidInput("Bad.", [Fault("/a", "too small")]),
            {"code": "invalid_input", "message": "Bad.", "faults": [{"pointer": "/a", "message": "too small"}]},
        ),
        (
            UnknownAction("No such.", action="a", matches=["b"]),
            {"code": "unknown_action", "message": "No such.", "matches": ["b"]},
        ),
        (
            RateLimited("Slow down.", retry_after=2.5, exceeded=["ip"]),
            {"code": "rate_limited", "message": "Slow down.", "retry_after": 2.5, "exceeded": ["ip"]},
        ),
        (ActionFailed("the secret", action="a"), {"code": "internal"}),
        (RuntimeError("the secret"), {"code": "internal"}),
    ],
)
async def test_failed_call_tells_what_is_for_callers(failure: Exception, error: dict[str, Any]) -> None:
    async def run(name: str, args: Mapping[str, Any] | None = None) -> Any:
        raise failure

    async with site() as place:
        place.manager.bind(run)
        client = await place.connect("ada")
        await client.send(type="call", id=1, action="a")
        answer = await client.receive()
        assert (answer["type"], answer["id"]) == ("error", 1)
        if error["code"] == "internal":
            assert answer["error"]["code"] == "internal"
            assert answer["error"]["request_id"].startswith(client.sid)
            assert "secret" not in json.dumps(answer)
        else:
            assert answer["error"] == error


async def test_result_that_is_not_json_is_an_internal_error() -> None:
    async def run(name: str, args: Mapping[str, Any] | None = None) -> Any:
        return object()

    async with site() as place:
        place.manager.bind(run)
        client = await place.connect("ada")
        with pytest.raises(Refused):
            await client.call("a", {})


async def test_calls_overlap_and_do_not_hold_up_other_messages() -> None:
    gates = {"slow": asyncio.Event(), "quick": asyncio.Event()}

    async def run(name: str, args: Mapping[str, Any] | None = None) -> Any:
        request = current_request()
        await gates[name].wait()
        return request.request_id if request is not None else None

    async with site(max_calls_per_connection=2) as place:
        place.manager.bind(run)
        client = await place.connect("ada")
        await client.send(type="call", id=1, action="slow")
        await client.send(type="call", id=2, action="quick")
        await client.send(type="call", id=3, action="one too many")
        answer = await client.receive()
        assert (answer["id"], answer["error"]["code"]) == (3, "too_many_calls")
        gates["quick"].set()
        assert await client.receive() == {"type": "ack", "id": 2, "result": f"{client.sid}.2"}
        gates["slow"].set()
        assert await client.receive() == {"type": "ack", "id": 1, "result": f"{client.sid}.1"}


# Hostile clients


@pytest.mark.parametrize("frame", ["{", "", "nonsense", "[1]", "null", '{"a": NaN}', "[" * 5000])
async def test_what_is_no_json_object_ends_the_connection(frame: str) -> None:
    async with site() as place:
        client = await place.connect("ada")
        await client.socket.send(frame)
        assert await client.ending() == (4400, "invalid_message")


async def test_binary_frame_ends_the_connection() -> None:
    async with site() as place:
        client = await place.connect("ada")
        await client.socket.send(b'{"type": "ping"}')
        assert await client.ending() == (1003, "invalid_message")


@pytest.mark.parametrize("text", ["x" * 300, "ü" * 200])
async def test_message_that_is_too_large_ends_the_connection(text: str) -> None:
    async with site(max_message_bytes=256) as place:
        client = await place.connect("ada")
        await client.send(type="ping", text=text)
        assert await client.ending() == (1009, "too_large")


async def test_fragmented_message_is_one_message() -> None:
    async with site() as place:
        client = await place.connect("ada")
        await client.socket.send(iter(['{"type": "joi', 'n", "room": ', '"news", "id": 1}']))
        answer = await client.receive()
        assert (answer["type"], answer["id"]) == ("ack", 1)


async def test_fragments_count_together() -> None:
    async with site(max_message_bytes=256) as place:
        client = await place.connect("ada")
        await client.socket.send(iter(["x" * 100] * 5))
        assert await client.ending() == (1009, "too_large")


async def test_flood_is_refused_then_ends_the_connection() -> None:
    async with site(message_rate=0.001, message_burst=5) as place:
        client = await place.connect("ada")
        other = await place.connect("bob")
        for _ in range(11):
            await client.send(type="join", room="news", id=1)
        kinds = [(await client.receive())["type"] for _ in range(10)]
        assert kinds == ["ack"] * 5 + ["error"] * 5
        assert await client.ending() == (4429, "rate_limited")
        await other.join("news")


async def test_refused_message_says_when_to_come_back() -> None:
    async with site(message_rate=0.5, message_burst=1) as place:
        client = await place.connect("ada")
        await client.join("a")
        await client.send(type="join", room="b", id=2)
        answer = await client.receive()
        assert answer["error"]["code"] == "rate_limited"
        assert 0 < answer["error"]["retry_after"] <= 2
        assert await place.manager.list_rooms() == ["a"]


async def only(place: Site, user_id: str) -> bool:
    return [info["user_id"] for info in await place.manager.list_sessions()] == [user_id]


async def test_client_that_vanishes_leaves_nothing() -> None:
    async with site() as place:
        _, writer = await raw_client(place, place.jwt.issue("ada"))
        writer.write(masked(1, b'{"type": "join", "room": "news"}'))
        await eventually(lambda: in_room(place, "news"))
        writer.transport.abort()
        await eventually(lambda: nothing_left(place))
        assert await place.manager.list_rooms() == []


async def in_room(place: Site, room: str) -> bool:
    return (await place.manager.get_room_info(room))["connections"] > 0


async def test_slow_reader_is_closed_with_its_code_and_slows_nobody() -> None:
    async with site(send_queue_messages=4, close_timeout=30) as place:
        reader, writer = await raw_client(place, place.jwt.issue("slow"), receive_buffer=4096)
        quick = await place.connect("quick")
        await quick.join("news")
        (slow,) = await place.manager.list_sessions("slow")
        await place.manager.join_room("news", slow["sid"])
        payload, sent, reached = "x" * 50_000, 0, 2
        while reached == 2:
            reached = await place.manager.emit_to_room("news", "tick", [sent, payload])
            assert (await quick.event())[2][0] == sent
            sent += 1
        assert await place.manager.list_sessions("slow") != []  # its close frame waits behind the write that blocks
        assert await place.manager.emit_to_room("news", "tick", [sent, payload]) == 1
        assert (await place.manager.health_check())["metrics"]["slow_readers"] == 1
        frames = 0
        while (frame := await read_frame(reader))[0] == 1:
            frames += 1
        assert frame[0] == 8
        assert struct.unpack("!H", frame[1][:2]) == (4420,)
        assert frames < sent
        writer.close()
        await eventually(lambda: only(place, "quick"))


@pytest.mark.parametrize(
    "settings", [{"send_timeout": 0.05, "close_timeout": 0.05}, {"send_queue_bytes": 60_000, "close_timeout": 0.05}]
)
async def test_client_that_never_reads_is_given_up(settings: dict[str, Any]) -> None:
    async with site(**settings) as place:
        _, writer = await raw_client(place, place.jwt.issue("slow"), receive_buffer=4096)
        (slow,) = await place.manager.list_sessions("slow")
        await place.manager.join_room("news", slow["sid"])
        for _ in range(200):
            await place.manager.emit_to_room("news", "tick", "x" * 50_000)
        await eventually(lambda: nothing_left(place))
        assert (await place.manager.health_check())["metrics"]["slow_readers"] == 1
        writer.close()


async def test_client_that_asks_without_reading_is_not_read_from() -> None:
    asked = 0

    async def echo(sid: str, data: Any) -> Any:
        nonlocal asked
        asked += 1
        return "x" * 60_000

    async with site(message_rate=1e9, message_burst=1_000_000) as place:
        await place.manager.register_handler("echo", echo)
        reader, writer = await raw_client(place, place.jwt.issue("slow"), receive_buffer=4096)
        for _ in range(2000):
            writer.write(masked(1, b'{"type":"emit","event":"echo","id":1}'))
        quick = await place.connect("quick")
        before = -1
        while asked != before:  # until nothing is answered any more
            before = asked
            for _ in range(20):
                await quick.ask(type="ping")
        assert 0 < asked < 2000
        assert (await place.manager.health_check())["metrics"]["slow_readers"] == 0
        while asked < 2000:
            await within(reader.read(65_536))
        writer.close()


# The life of the manager


async def test_stop_closes_connections_and_leaves_no_tasks() -> None:
    gate = asyncio.Event()

    async def run(name: str, args: Mapping[str, Any] | None = None) -> Any:
        await gate.wait()

    async with site() as place:
        place.manager.bind(run)
        client, silent = await place.connect("ada"), await place.open()
        await client.send(type="call", id=1, action="endless")
        await client.ask(type="ping")
        await within(place.manager.stop())
        assert await client.closed() == 1012
        assert await silent.closed() == 1012
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("websocket")]
        assert (await place.manager.health_check())["status"] == "unhealthy"
        with pytest.raises(InvalidStatus) as caught:
            await place.connect("ada")
        assert caught.value.response.status_code == 503


async def test_stop_cuts_off_a_handler_that_does_not_end() -> None:
    begun = asyncio.Event()

    async def endless(sid: str, data: Any) -> Any:
        begun.set()
        await asyncio.Event().wait()

    async with site(close_timeout=0.05) as place:
        await place.manager.register_handler("endless", endless)
        client = await place.connect("ada")
        await client.send(type="emit", event="endless")
        await within(begun.wait())
        await within(place.manager.stop())
        assert await client.closed() == 1012
        assert await place.manager.list_sessions() == []


async def test_stop_without_start_does_nothing() -> None:
    manager = NativeWebSocketManager(NativeSettings(), TableJWT(), None)
    await manager.stop()
    assert (await manager.health_check())["status"] == "unhealthy"


async def test_drain_lets_running_calls_end_and_takes_no_new_connections() -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    async def run(name: str, args: Mapping[str, Any] | None = None) -> Any:
        begun.set()
        await gate.wait()
        return "done"

    async with site() as place:
        place.manager.bind(run)
        client = await place.connect("ada")
        await client.send(type="call", id=1, action="a")
        await within(begun.wait())
        draining = asyncio.create_task(place.manager.drain())
        await asyncio.sleep(0)
        with pytest.raises(InvalidStatus) as caught:
            await place.connect("bob")
        assert caught.value.response.status_code == 503
        assert 0 <= (await client.told("reconnect"))["after"] <= 10
        gate.set()
        assert await client.receive() == {"type": "ack", "id": 1, "result": "done"}
        assert await client.closed() == 1012
        await within(draining)


async def test_close_code_that_a_server_may_not_send_is_refused() -> None:
    async with site() as place:
        with pytest.raises(InvalidInput, match="close code"):
            await place.manager.disconnect("anything", code=1006)


async def test_events_of_other_tasks_and_a_plain_endpoint_in_an_application() -> None:
    jwt, app = TableJWT(), Starlette()
    manager = NativeWebSocketManager(NativeSettings(), jwt, None)
    manager.initialize(app)
    manager.initialize(app)
    assert len(app.router.routes) == 1
    await manager.start()
    async with serving(app) as host:
        place = Site(manager, jwt, host)
        client = await place.connect("ada")
        await client.join("news")
        assert await asyncio.create_task(manager.emit_to_room("news", "tick", 1)) == 1
        assert await client.event() == ("news", "tick", 1)
        await place.close()
        await within(manager.stop())


async def test_endpoint_without_builtin_handlers_answers_handlers_alone() -> None:
    async def answer(sid: str, data: Any) -> Any:
        return data

    jwt, app = TableJWT(), Starlette()
    manager = NativeWebSocketManager(NativeSettings(path="/own"), jwt, None)
    await manager.register_handler("own", answer)
    manager.initialize(app, use_builtin_handlers=False)
    await manager.start()
    async with serving(app) as host:
        place = Site(manager, jwt, host)
        client = await place.connect("ada", url=f"ws://{host}/own")
        assert await client.emit(None, "own", 1) == 1
        for message, code in (
            ({"type": "join", "room": "news"}, "unknown_type"),
            ({"type": "call", "action": "a"}, "unknown_type"),
            ({"type": "emit", "room": "news", "event": "other"}, "unknown_event"),
        ):
            with pytest.raises(Refused, match=code):
                await client.ask(**message)
        await place.close()
        await within(manager.stop())


async def test_http_request_to_the_endpoint_is_told_to_upgrade() -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    async def send(message: Any) -> None:
        sent.append(message)

    await NativeWebSocketManager(NativeSettings(), TableJWT(), None).handle({"type": "http"}, receive, send)
    assert sent[0]["status"] == 426
