"""The provider ``socketio`` against a real server and a client that speaks its wire protocol."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from socketio import AsyncRedisManager
from starlette.applications import Starlette
from websockets.exceptions import ConnectionClosed, InvalidStatus

from base04.testing.conformance.websocket import WebSocketConformance
from base04.testing.conformance.websocket_client import TIMEOUT_S, Connect, Refused, within
from base04.testing.servers.redis import RedisServer
from base04_builtin.websocket.socketio.manager import SocketIOWebSocketManager
from base04_builtin.websocket.socketio.settings import SocketIOSettings
from base04_hookspecs.errors import InvalidInput, ManagerUnavailable
from redis_kit import QUICK, started
from socketio_kit import PATH, Site, site
from websocket_kit import TableJWT, eventually, serving


class TestConformance(WebSocketConformance):
    capabilities = frozenset({"shared"})

    @pytest.fixture
    async def served(self) -> AsyncIterator[Site]:
        async with site() as place:
            yield place

    @pytest.fixture
    def manager(self, served: Site) -> SocketIOWebSocketManager:
        return served.manager

    @pytest.fixture
    def connect(self, served: Site) -> Connect:
        return served.connect


# Letting in


@pytest.mark.parametrize("token", [None, "nonsense", "", "nön-ÄSCII"])
async def test_client_without_a_valid_token_is_refused(token: str | None) -> None:
    async with site() as place:
        client = await place.open()
        with pytest.raises(Refused) as caught:
            await client.authenticate(token)
        assert caught.value.code == "unauthenticated"
        assert await place.manager.list_sessions() == []


async def test_token_in_the_header_authenticates() -> None:
    async with site() as place:
        headers = {"Authorization": f"Bearer {place.jwt.issue('ada')}"}
        client = await (await place.open(additional_headers=headers)).authenticate(None)
        (session,) = await place.manager.list_sessions()
        assert (session["sid"], session["user_id"], session["client_ip"]) == (client.sid, "ada", "127.0.0.1")


async def test_client_that_never_says_who_it_is_is_closed() -> None:
    async with site(auth_timeout=0.05) as place:
        client = await place.open()
        assert str(await within(client.wire.recv())).startswith("0")
        assert await client.ending() == (0, False)
        await eventually(place.nothing_left)


@pytest.mark.parametrize(
    ("failure", "code"), [(ManagerUnavailable("down"), "unavailable"), (RuntimeError("broken"), "internal")]
)
async def test_tokens_that_cannot_be_checked_are_not_refused_for_good(failure: Exception, code: str) -> None:
    async with site() as place:
        token = place.jwt.issue("ada")
        place.jwt.failure = failure
        with pytest.raises(Refused) as caught:
            await (await place.open()).authenticate(token)
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (PATH + "&token=secret", {}, 400),
        (PATH, {"Origin": "http://evil.example"}, 403),
        ("/socket.io/?EIO=3&transport=websocket", {}, 403),
        ("/socket.io/?EIO=4&transport=websocket&sid=nobody", {}, 403),
    ],
)
async def test_handshake_that_is_refused(path: str, headers: dict[str, str], status: int) -> None:
    async with site() as place:
        with pytest.raises(InvalidStatus) as caught:
            await place.open(path, additional_headers=headers)
        assert caught.value.response.status_code == status
        await eventually(place.nothing_left)


async def test_requests_of_clients_that_poll_are_checked_too() -> None:
    async with (
        site(allowed_origins=("https://app.example",)) as place,
        httpx.AsyncClient(base_url=f"http://{place.host}", timeout=TIMEOUT_S) as client,
    ):
        path = "/socket.io/?EIO=4&transport=polling"
        assert (await client.get(path, headers={"origin": "http://evil.example"})).status_code == 403
        answer = await client.get(path, headers={"origin": "https://app.example"})
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert "access-control-allow-credentials" not in answer.headers
        session = f"{path}&sid={json.loads(answer.text[1:])['sid']}"
        hello = "40" + json.dumps({"token": place.jwt.issue("ada")})
        assert (await client.post(session, content=hello)).text == "ok".upper()
        assert (await client.get(session)).text.startswith("40")
        assert len(await place.manager.list_sessions("ada")) == 1
        polling = asyncio.create_task(client.get(session))
        assert (await client.post(session, content="1")).status_code == 200
        assert (await within(polling)).status_code in (200, 400)  # at once, and not when the ping is due
        await eventually(place.nothing_left)


async def test_too_many_connections_are_refused() -> None:
    async with site(max_connections=1) as place:
        await place.connect("ada")
        with pytest.raises(InvalidStatus) as caught:
            await place.connect("bob")
        assert caught.value.response.status_code == 503


async def test_only_the_main_namespace_is_there() -> None:
    async with site() as place:
        client = await place.connect("ada")
        await client.wire.send(f"40/admin,{json.dumps({'token': place.jwt.issue('ada')})}")
        assert (await client.packet()).startswith("4/admin,")
        await client.join("still here")


# What clients must not do


@pytest.mark.parametrize(
    "packet",
    [
        '42["connect",{"asgi.scope":{}},{"token":"x"}]',
        '42["disconnect","why"]',
        "42[]",
        "42{}",
        "42[1]",
        "42",
        "42[NaN]",
        "4",
        "4x",
        "49[]",
        '451-["event",{"_placeholder":true,"num":0}]',
        "40{",
        "42" + "[" * 2000,
        "429" + "9" * 200 + '["ping"]',
        b"binary",
    ],
)
async def test_packet_that_is_none_ends_its_connection_and_no_other(
    packet: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with site() as place:
        eve, ada = await place.connect("eve"), await place.connect("ada")
        await eve.wire.send(packet)
        await eve.ending()
        await ada.join("still here")
        await eventually(lambda: _only(place, "ada"))
    assert [record for record in caplog.records if record.exc_info] == []


async def _only(place: Site, user_id: str) -> bool:
    return [session["user_id"] for session in await place.manager.list_sessions()] == [user_id]


async def test_message_that_is_too_large_ends_its_connection() -> None:
    async with site(max_message_bytes=1000) as place:
        client = await place.connect("ada")
        await client.send("join", {"room": "x" * 2000})
        await client.ending()
        await eventually(place.nothing_left)


async def test_name_of_a_connection_is_no_room() -> None:
    async with site() as place:
        ada, eve = await place.connect("ada"), await place.connect("eve")
        with pytest.raises(Refused):
            await eve.join(ada.sid)
        with pytest.raises(InvalidInput):
            await place.manager.join_room(ada.sid, eve.sid)
        assert await place.manager.emit_to_room(ada.sid, "event", 1) == 0
        assert await place.manager.list_rooms() == []


async def test_client_that_sends_too_much_is_refused_then_closed() -> None:
    async with site(message_rate=0.001, message_burst=3) as place:
        client = await place.connect("ada")
        codes = []
        for _ in range(5):
            try:
                await client.ask("join", {"room": "news"})
                codes.append("joined")
            except Refused as refused:
                codes.append(refused.code)
        assert codes == ["joined"] * 3 + ["rate_limited"] * 2
        for _ in range(2):
            await client.send("join", {"room": "news"})
        assert await client.ending() == (4429, False)


async def test_limits_of_rooms_and_calls() -> None:
    running = asyncio.Event()

    async def run(name: str, args: Mapping[str, Any] | None = None) -> Any:
        await running.wait()

    async with site(max_rooms_per_connection=2, max_calls_per_connection=1) as place:
        place.manager.bind(run)
        client = await place.connect("ada")
        await client.join("a")
        await client.join("b")
        with pytest.raises(Refused, match="too_many_rooms"):
            await client.join("c")
        await client.send("call", {"action": "slow"}, 77)
        with pytest.raises(Refused, match="too_many_calls"):
            await client.call("slow", {})
        running.set()
        assert await client.packet() == '377[{"result":null}]'


@pytest.mark.parametrize(
    ("event", "data", "code"),
    [
        ("join", None, "invalid_message"),
        ("join", {"room": ""}, "invalid_message"),
        ("join", {"room": "\n"}, "invalid_message"),
        ("emit", {"room": "news"}, "invalid_message"),
        ("emit", {"event": "nobody answers"}, "unknown_event"),
        ("emit", {"event": "line", "room": "elsewhere"}, "not_in_room"),
        ("call", {"action": "a.b", "args": []}, "invalid_message"),
        ("auth", {"token": 7}, "invalid_message"),
        ("auth", {"token": "nonsense"}, "unauthenticated"),
        ("nobody answers", 1, "unknown_event"),
    ],
)
async def test_what_cannot_be_done_is_told_with_or_without_acknowledgement(event: str, data: Any, code: str) -> None:
    async with site() as place:
        client = await place.connect("ada")
        with pytest.raises(Refused) as caught:
            await client.ask(event, data)
        assert caught.value.code == code
        await client.send(event, data)
        name, error = await client.arguments()
        assert (name, error["code"]) == ("error", code)


async def test_client_that_does_not_read_is_closed_and_slows_nobody() -> None:
    async with site(send_queue_messages=8) as place:
        slow, quick = [await place.connect(user, compression=None) for user in ("slow", "quick")]
        slow.wire.transport.pause_reading()
        await slow.send("join", {"room": "news"})
        await quick.join("news")
        await eventually(lambda: _in_room(place, 2))
        payload, number, reached = "x" * 50_000, 0, 2
        while reached == 2:
            reached = await place.manager.emit_to_room("news", "tick", [number, payload])
            assert (await quick.event())[2][0] == number
            number += 1
        await eventually(lambda: _only(place, "quick"))
        assert (await place.manager.health_check())["metrics"]["slow_readers"] == 1
        slow.wire.transport.resume_reading()


async def _in_room(place: Site, connections: int) -> bool:
    return (await place.manager.get_room_info("news"))["connections"] == connections


# Tokens that end


async def test_connection_ends_with_its_token() -> None:
    async with site() as place:
        client = await place.connect("ada")
        (session,) = place.manager._connections.sessions()
        session.identify(session.principal, session.token, time.time() + 0.05)
        assert await client.ending() == (4410, True)
        await eventually(place.nothing_left)


async def test_revoked_token_ends_its_connection() -> None:
    async with site() as place:
        token = place.jwt.issue("ada")
        client = await (await place.open()).authenticate(token)
        await place.jwt.blacklist_token(token)
        assert await client.ending() == (4411, True)


async def test_token_is_renewed_in_band_for_the_same_user() -> None:
    async with site() as place:
        old = place.jwt.issue("ada")
        client = await (await place.open()).authenticate(old)
        await client.join("news")
        renewed = await client.ask("auth", {"token": place.jwt.issue("ada")})
        assert renewed == {"sid": client.sid, "user_id": "ada"}
        with pytest.raises(Refused, match="forbidden"):
            await client.ask("auth", {"token": place.jwt.issue("eve")})
        await place.jwt.blacklist_token(old)
        await client.emit("news", "line", 1)
        assert await client.event() == ("news", "line", 1)


async def test_client_that_stays_after_it_was_disconnected_is_cut_off() -> None:
    async with site(close_timeout=0.05) as place:
        client = await place.connect("ada")
        assert await place.manager.disconnect(client.sid, code=4321, reason="enough")
        assert await client.packet() == '2["closing",{"code":4321,"reason":"enough"}]'
        assert await client.packet() == "1"
        with pytest.raises((ConnectionClosed, ConnectionResetError)):
            await client.packet()
        await eventually(place.nothing_left)


# Serving from another application


async def test_application_without_builtin_events_answers_handlers_alone() -> None:
    jwt = TableJWT()
    manager = SocketIOWebSocketManager(SocketIOSettings(), jwt, None)
    await manager.start()
    app = Starlette()
    manager.initialize(app, use_builtin_handlers=False)
    manager.initialize(app)
    assert len(app.routes) == 1
    await manager.register_handler("double", lambda sid, data: data * 2)
    async with serving(app) as host:
        place = Site(manager, jwt, host)
        client = await place.connect("ada")
        assert await client.emit(None, "double", 21) == 42
        with pytest.raises(Refused, match="unknown_event"):
            await client.join("news")
        await place.close()
        await within(manager.stop())


# Several processes


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as running:
        yield running


@pytest.fixture
async def pair(server: RedisServer) -> AsyncIterator[tuple[Site, Site]]:
    """Two managers for the same users, each with a connection of its own to one server."""
    jwt = TableJWT()
    async with (
        started(server.url, **QUICK) as here,
        started(server.url, **QUICK) as there,
        site(here, jwt) as one,
        site(there, jwt) as two,
    ):
        yield one, two


async def test_events_reach_the_connections_of_all_processes_once(pair: tuple[Site, Site]) -> None:
    one, two = pair
    ada, bob = await one.connect("ada"), await two.connect("bob")
    await ada.join("news")
    await bob.join("news")
    assert await one.manager.emit_to_room("news", "first", [1, None]) == 1
    for client in (ada, bob):
        assert await client.event() == ("news", "first", [1, None])
    await bob.emit("news", "second", {"n": 2})
    for client in (ada, bob):
        assert await client.arguments() == ["second", {"n": 2}, {"room": "news", "sender": "bob"}]


async def test_program_with_nothing_of_ours_emits_through_redis(pair: tuple[Site, Site], server: RedisServer) -> None:
    one, _ = pair
    ada = await one.connect("ada")
    await ada.join("news")
    program = AsyncRedisManager(server.url, write_only=True)
    await program.emit("headline", {"from": "outside"}, room="news")
    assert await ada.arguments() == ["headline", {"from": "outside"}]
    await program.redis.aclose()


async def test_rooms_go_on_without_redis_and_clients_hear_of_the_gap(
    pair: tuple[Site, Site], server: RedisServer
) -> None:
    one, two = pair
    ada, bob = await one.connect("ada"), await two.connect("bob")
    await ada.join("news")
    await bob.join("news")
    server.kill()
    assert await one.manager.emit_to_room("news", "alone", 1) == 1
    assert await ada.event() == ("news", "alone", 1)
    assert (await one.manager.health_check())["metrics"]["unpublished"] == 1
    server.start()
    for client in (ada, bob):
        assert await client.told("gap") == {}
    await one.manager.emit_to_room("news", "together", 2)
    assert await bob.event() == ("news", "together", 2)
