"""What providers of the role ``websocket`` do that have ``presence`` or ``recovery``, and what others do instead."""

from __future__ import annotations

from typing import ClassVar

import pytest

from base04.testing.conformance.declared import DeclaredCapabilities
from base04.testing.conformance.websocket_client import Connect, Refused, room_of, until, within
from base04_hookspecs.errors import NotSupported
from base04_hookspecs.websocket import WebSocketManager


class RoomsConformance(DeclaredCapabilities):
    """A part of ``WebSocketConformance``."""

    known_capabilities: ClassVar[frozenset[str]] = frozenset({"presence", "recovery", "shared"})

    async def test_who_asks_for_it_hears_of_users_who_come_and_go(
        self, manager: WebSocketManager, connect: Connect
    ) -> None:
        if "presence" not in self.capabilities:
            return
        ada, bob, laptop = await connect("ada"), await connect("bob"), await connect("bob")
        assert (await ada.join("news", presence=True)).get("users") == ["ada"]
        await bob.join("news")
        assert await within(ada.told("presence")) == {"room": "news", "event": "join", "user_id": "bob"}
        await laptop.join("news")
        await bob.leave("news")
        assert await manager.get_room_info("news") == room_of("news", ada=1, bob=1)
        await laptop.close()
        assert await within(ada.told("presence")) == {"room": "news", "event": "leave", "user_id": "bob"}
        assert await manager.get_room_info("news") == room_of("news", ada=1)

    async def test_who_joins_hears_who_is_there(self, connect: Connect) -> None:
        if "presence" not in self.capabilities:
            try:
                joined = await (await connect("ada")).join("news", presence=True)
            except Refused:  # that will do as well
                return
            assert "users" not in joined
            return
        for user in ("bob", "ada", "ada"):
            await (await connect(user)).join("news")
        eve = await connect("eve")
        assert "users" not in await eve.join("news")
        assert (await eve.join("news", presence=True)).get("users") == ["ada", "bob", "eve"]

    async def test_who_comes_back_gets_what_was_missed(self, manager: WebSocketManager, connect: Connect) -> None:
        if "recovery" not in self.capabilities:
            return
        ada, bob = await connect("ada"), await connect("bob")
        await ada.join("news")
        await bob.join("news")
        for number in range(3):
            await manager.emit_to_room("news", "tick", number)
        for number in range(2):
            assert (await within(ada.event()))[2] == number
        position = ada.position("news")
        await ada.close()
        await within(until(lambda: manager.list_sessions("ada"), lambda sessions: not sessions))
        await manager.emit_to_room("news", "tick", 3)
        again = await connect("ada")
        joined = await again.join("news", since=position)
        assert joined.get("recovered") is True
        await manager.emit_to_room("news", "tick", 4)
        assert [(await within(again.event()))[2] for _ in range(3)] == [2, 3, 4]
        assert again.position("news") == {"epoch": joined["epoch"], "offset": position["offset"] + 3}

    async def test_who_has_missed_nothing_is_told_so_even_when_all_had_left(
        self, manager: WebSocketManager, connect: Connect
    ) -> None:
        if "recovery" not in self.capabilities:
            return
        ada = await connect("ada")
        await ada.join("news")
        await manager.emit_to_room("news", "tick", 1)
        await within(ada.event())
        position = ada.position("news")
        await ada.leave("news")
        assert await ada.join("news", since=position) == {**position, "recovered": True}
        await ada.leave("news")
        await manager.emit_to_room("news", "tick", 2)
        assert (await ada.join("news", since=position)).get("recovered") is True
        assert (await within(ada.event()))[2] == 2

    async def test_what_is_gone_is_said_to_be_gone(self, manager: WebSocketManager, connect: Connect) -> None:
        if "recovery" not in self.capabilities:
            return
        ada = await connect("ada")
        await ada.join("news")
        await manager.emit_to_room("news", "tick", 0)
        await within(ada.event())
        position = ada.position("news")
        await ada.leave("news")
        history = await manager.room_history("news", position)
        emitted = 0
        while history["complete"]:
            emitted += 1
            await manager.emit_to_room("news", "tick", emitted)
            history = await manager.room_history("news", position)
        joined = await ada.join("news", since=position)
        assert (joined.get("recovered"), joined["offset"]) == (False, position["offset"] + emitted)
        kept = len(history["events"])
        assert [(await within(ada.event()))[2] for _ in range(kept)] == list(range(emitted - kept + 1, emitted + 1))
        await ada.leave("news")
        other = await ada.join("news", since={"epoch": "another", "offset": position["offset"]})
        assert (other.get("recovered"), other["epoch"]) == (False, position["epoch"])

    async def test_history_of_a_room(self, manager: WebSocketManager, connect: Connect) -> None:
        if "recovery" not in self.capabilities:
            with pytest.raises(NotSupported):
                await manager.room_history("news")
            return
        ada = await connect("ada")
        await ada.join("news")
        await ada.emit("news", "line", {"n": 1})
        await manager.emit_to_room("news", "line", [2])
        history = await manager.room_history("news")
        assert history["complete"]
        assert history["events"] == [
            {"event": "line", "data": {"n": 1}, "sender": "ada", "offset": 1},
            {"event": "line", "data": [2], "offset": 2},
        ]
        since = await manager.room_history("news", {"epoch": history["epoch"], "offset": 1})
        assert (since["events"], since["offset"], since["complete"]) == (history["events"][1:], 2, True)
        for elsewhere in ("another epoch", history["epoch"] + "x"):
            none = await manager.room_history("news", {"epoch": elsewhere, "offset": 1})
            assert (none["events"], none["offset"], none["complete"]) == ([], 2, False)
        assert (await manager.room_history("nothing happened here"))["events"] == []
