"""Sockets of two hosts that share Redis and PostgreSQL: rooms, presence, recovery, tokens, and what fails."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import websockets

from base04.testing.conformance.websocket_client import within
from base04.testing.servers.redis import RedisServer
from postgres_kit import postgres, postgres_url
from serve_kit import Server, write
from websocket_kit import NativeClient, eventually

Serve = Callable[..., Server]
__all__ = ["postgres", "postgres_url"]

PACK = """
    pack: news
    version: 1.0.0
    actions:
      publish:
        summary: Tell everyone in a room
        handler: .handlers:publish
        parameters:
          room: {type: string}
          text: {type: string}
        required: [room, text]
      who:
        summary: Tell who is in a room
        handler: .handlers:who
        parameters:
          room: {type: string}
        required: [room]
"""
HANDLERS = """
    from base04_hookspecs.websocket import WebSocketManager


    async def publish(room: str, text: str, websocket: WebSocketManager) -> int:
        return await websocket.emit_to_room(room, "headline", text)


    async def who(room: str, websocket: WebSocketManager) -> dict[str, int]:
        return (await websocket.get_room_info(room))["devices"]
"""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "redis"
    folder.mkdir()
    with RedisServer(folder) as server:
        yield server


class Host:
    """One of the two hosts."""

    def __init__(self, server: Server, stack: AsyncExitStack) -> None:
        self.server = server
        self._stack = stack

    async def connect(self, token: str) -> NativeClient:
        """Connect with a token of any of the hosts."""
        address = self.server.url.replace("http://", "ws://") + "/ws"
        headers = {"Authorization": f"Bearer {token}"}
        socket = await self._stack.enter_async_context(
            websockets.connect(address, additional_headers=headers, proxy=None)
        )
        return await NativeClient(socket).greeted()

    def token(self, user: str) -> str:
        """Return a token for a user."""
        with self.server.admin() as admin:
            body = {"user_id": user, "permissions": ["news.*"]}
            key = admin.post("/api-keys", json=body).json()["api_key"]
            token: str = admin.post("/auth/token", headers={"x-api-key": key}).json()["access_token"]
        return token

    def run(self, token: str, action: str, **args: Any) -> Any:
        """Run an action over HTTP."""
        with self.server.client(authorization=f"Bearer {token}") as client:
            answer = client.post(f"/actions/news.{action}", json=args)
        assert answer.status_code == 200, answer.text
        return answer.json()


class Two:
    """Both hosts; the first can make tokens."""

    def __init__(self, one: Host, two: Host) -> None:
        self.one, self.two = one, two

    async def members(self, room: str = "news") -> tuple[NativeClient, NativeClient]:
        """Return ada, who is connected to the first host and watches, and bob, who is connected to the second."""
        ada = await self.one.connect(self.one.token("ada"))
        bob = await self.two.connect(self.one.token("bob"))
        await ada.join(room, presence=True)
        await bob.join(room)
        assert await ada.told("presence") == {"room": room, "event": "join", "user_id": "bob"}
        return ada, bob


@pytest.fixture
async def two(serve: Serve, tmp_path: Path, redis: RedisServer, postgres_url: str) -> AsyncIterator[Two]:
    write(tmp_path / "actions" / "news.yaml", PACK)
    write(tmp_path / "actions" / "handlers.py", HANDLERS)
    settings = {
        "managers": {
            "redis": {"provider": "server", "server": {"url": redis.url}},
            "database": {"provider": "postgresql", "postgresql": {"url": postgres_url}},
            "vault": {"file": {"path": str(tmp_path / "secrets.json")}},
            "action_discovery": {"folders": [str(tmp_path / "actions")]},
            "rate_limiter": {"limits": {"ip": "100000/minute", "user": "100000/minute"}},
            "websocket": {"native": {"presence_lease": 2, "drain_spread": 0, "reconnect_spread": 5}},
        }
    }
    first = serve(tmp_path / "one", settings=json.dumps(settings))
    assert first.url  # the first makes the tables and the first key
    second = serve(tmp_path / "two", settings=json.dumps(settings))
    async with AsyncExitStack() as stack:
        yield Two(Host(first, stack), Host(second, stack))


async def test_rooms_reach_everyone_wherever_they_are_connected(two: Two) -> None:
    ada, bob = await two.members()
    token = two.one.token("eve")
    assert two.two.run(token, "publish", room="news", text="from an action") == 1
    await ada.emit("news", "line", "from a client")
    await bob.call("news.publish", {"room": "news", "text": "from a call"})
    for client in (ada, bob):
        seen = [await client.event() for _ in range(3)]
        assert seen == [
            ("news", "headline", "from an action"),
            ("news", "line", "from a client"),
            ("news", "headline", "from a call"),
        ]
    assert two.one.run(token, "who", room="news") == two.two.run(token, "who", room="news") == {"ada": 1, "bob": 1}


async def test_revoked_token_closes_its_sockets_on_both_hosts(two: Two) -> None:
    token = two.one.token("ada")
    sockets = [await host.connect(token) for host in (two.one, two.two)]
    other = await two.two.connect(two.one.token("bob"))
    with two.one.server.admin() as admin:
        assert admin.post("/auth/revoke", json={"token": token}).status_code == 200
    assert [await socket.closed() for socket in sockets] == [4411, 4411]
    await other.join("still here")


async def test_redis_that_is_killed_and_comes_back_is_a_gap_and_no_more(two: Two, redis: RedisServer) -> None:
    ada, bob = await two.members()
    here = await two.one.connect(two.one.token("here"))
    await here.join("news")
    await ada.emit("news", "line", 1)
    assert [await client.event() for client in (ada, bob, here)] == [("news", "line", 1)] * 3
    redis.kill()
    await ada.emit("news", "line", 2)
    assert await here.event() == ("news", "line", 2)
    redis.start()
    gaps = [await client.told("gap") for client in (ada, bob, here)]
    assert {gap["room"] for gap in gaps} == {"news"}
    assert (await bob.join("news"))["epoch"] == gaps[0]["epoch"]

    async def resumed() -> bool:
        await ada.emit("news", "line", "again")
        return "epoch" in await here.event_message()

    assert await here.ask(type="ping") is None
    await eventually(resumed)
    while (await bob.event())[2] != "again":
        pass
    assert (await ada.ask(type="ping"), await bob.ask(type="ping")) == (None, None)


async def test_users_of_a_host_that_is_killed_leave_and_come_back_elsewhere(two: Two) -> None:
    ada, bob = await two.members()
    await ada.emit("news", "line", 1)
    await bob.event()
    token = two.one.token("bob")
    two.two.server.signal(signal.SIGKILL)
    assert await ada.told("presence") == {"room": "news", "event": "leave", "user_id": "bob"}
    await ada.emit("news", "line", 2)
    again = await two.one.connect(token)
    assert (await again.join("news", since=bob.position("news"))).get("recovered") is True
    assert await again.event() == ("news", "line", 2)


async def test_host_that_stops_tells_its_clients_when_to_come_back(two: Two) -> None:
    ada, bob = await two.members()
    await ada.emit("news", "line", 1)
    await bob.event()
    token = two.one.token("bob")
    two.two.server.signal()
    assert 0 <= (await bob.told("reconnect"))["after"] <= 5
    assert await bob.closed() == 1012
    assert await ada.told("presence") == {"room": "news", "event": "leave", "user_id": "bob"}
    await ada.emit("news", "line", 2)
    again = await two.one.connect(token)
    assert (await again.join("news", since=bob.position("news"))).get("recovered") is True
    assert await again.event() == ("news", "line", 2)
    assert await within(asyncio.to_thread(two.two.server.wait)) == 0
