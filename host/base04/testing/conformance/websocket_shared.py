"""What providers of the role ``websocket`` do in several processes."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest

from base04.testing.conformance.websocket_client import Connect, room_of, until, within
from base04_hookspecs.websocket import WebSocketManager


class SharedWebSocketConformance:
    """Subclass it for a provider with ``presence`` and ``recovery``, and say whether it is ``shared``.

    Give it the fixtures ``manager`` and ``connect``, and ``other_manager`` and ``connect_there``: a second manager, for
    the same users, on a ``redis`` role that shares the server of the first one's.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset({"presence", "recovery", "shared"})

    @pytest.fixture(autouse=True)
    def only_what_is_shared(self, request: pytest.FixtureRequest) -> None:
        """Skip what is about several processes for a provider that does not declare it, but for the test whether."""
        if "shared" not in self.capabilities and not request.node.name.endswith("_if_declared"):
            pytest.skip("the provider does not share events between processes")

    async def test_events_cross_processes_if_declared(
        self, manager: WebSocketManager, other_manager: WebSocketManager, connect_there: Connect
    ) -> None:
        bob = await connect_there("bob")
        await bob.join("news")
        await manager.emit_to_room("news", "tick", "from there")
        if "shared" in self.capabilities:
            assert await within(bob.event()) == ("news", "tick", "from there")
        await other_manager.emit_to_room("news", "tick", "from here")
        assert await within(bob.event()) == ("news", "tick", "from here")

    async def test_events_reach_the_connections_of_both(
        self, manager: WebSocketManager, other_manager: WebSocketManager, connect: Connect, connect_there: Connect
    ) -> None:
        ada, bob = await connect("ada"), await connect_there("bob")
        await ada.join("news")
        await bob.join("news")
        assert await manager.emit_to_room("news", "tick", 1) == 1
        assert await other_manager.emit_to_room("news", "tick", 2) == 1
        await bob.emit("news", "tick", 3)
        for client in (ada, bob):
            assert [await within(client.event()) for _ in range(3)] == [("news", "tick", n) for n in (1, 2, 3)]
        assert ada.position("news") == bob.position("news")

    async def test_who_has_no_connections_there_reaches_those_who_are(
        self, other_manager: WebSocketManager, connect: Connect
    ) -> None:
        ada = await connect("ada")
        await ada.join("news")
        assert await other_manager.emit_to_room("news", "tick", 1) == 0
        assert await within(ada.event()) == ("news", "tick", 1)

    async def test_all_see_one_order_whoever_emits(
        self, manager: WebSocketManager, other_manager: WebSocketManager, connect: Connect, connect_there: Connect
    ) -> None:
        ada, bob = await connect("ada"), await connect_there("bob")
        await ada.join("news")
        await bob.join("news")

        async def emit(emitter: WebSocketManager, name: str) -> None:
            for number in range(100):
                await emitter.emit_to_room("news", name, number)

        await within(asyncio.gather(emit(manager, "here"), emit(other_manager, "there"), emit(manager, "here too")))
        seen = [[await within(client.event()) for _ in range(300)] for client in (ada, bob)]
        assert seen[0] == seen[1]
        for name in ("here", "there", "here too"):
            assert [data for _, event, data in seen[0] if event == name] == list(range(100))

    async def test_presence_covers_both(
        self, manager: WebSocketManager, other_manager: WebSocketManager, connect: Connect, connect_there: Connect
    ) -> None:
        phone, laptop, bob = await connect("ada"), await connect_there("ada"), await connect_there("bob")
        await phone.join("news", presence=True)
        await laptop.join("news")
        await bob.join("news")
        assert await within(phone.told("presence")) == {"room": "news", "event": "join", "user_id": "bob"}
        for asked in (manager, other_manager):
            await within(
                until(
                    lambda asked=asked: asked.get_room_info("news"),  # type: ignore[misc]  # its default binds it
                    lambda info: info == room_of("news", ada=2, bob=1),
                )
            )
            assert await asked.list_rooms() == ["news"]
        await bob.close()
        assert await within(phone.told("presence")) == {"room": "news", "event": "leave", "user_id": "bob"}
        await phone.leave("news")
        await within(until(lambda: other_manager.get_room_info("news"), lambda info: info == room_of("news", ada=1)))

    async def test_who_comes_back_to_the_other_gets_what_was_missed(
        self, manager: WebSocketManager, connect: Connect, connect_there: Connect
    ) -> None:
        ada = await connect("ada")
        await ada.join("news")
        await manager.emit_to_room("news", "tick", 1)
        await within(ada.event())
        position = ada.position("news")
        await ada.close()
        await manager.emit_to_room("news", "tick", 2)
        again = await connect_there("ada")
        assert (await again.join("news", since=position)).get("recovered") is True
        await manager.emit_to_room("news", "tick", 3)
        assert [(await within(again.event()))[2] for _ in range(2)] == [2, 3]

    async def test_one_that_stops_takes_its_users_along(
        self, manager: WebSocketManager, other_manager: WebSocketManager, connect: Connect, connect_there: Connect
    ) -> None:
        ada, bob = await connect("ada"), await connect_there("bob")
        await ada.join("news", presence=True)
        await bob.join("news")
        assert (await within(ada.told("presence")))["event"] == "join"
        await within(other_manager.stop())
        assert await within(ada.told("presence")) == {"room": "news", "event": "leave", "user_id": "bob"}
        assert await manager.get_room_info("news") == room_of("news", ada=1)
