"""What every provider of the role ``websocket`` does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from base04.testing.conformance.websocket_client import Connect, Refused, room_of, until, within
from base04.testing.conformance.websocket_rooms import RoomsConformance
from base04_hookspecs import Principal, current_request
from base04_hookspecs.errors import InvalidInput, PermissionDenied
from base04_hookspecs.websocket import WebSocketManager

__all__ = ["Connect", "Refused", "WebSocketConformance", "within"]


class WebSocketConformance(RoomsConformance):
    """Subclass it, and give it the fixtures ``manager`` (started, served) and ``connect``, and the ``capabilities``.

    A provider that has ``shared`` passes ``SharedWebSocketConformance`` of ``websocket_shared`` too.
    """

    async def test_a_connection_is_listed_with_its_user(self, manager: WebSocketManager, connect: Connect) -> None:
        ada = await connect("ada")
        bob = await connect("bob")
        assert {info["sid"] for info in await manager.list_sessions()} == {ada.sid, bob.sid}
        (info,) = await manager.list_sessions("ada")
        assert (info["sid"], info["user_id"], info["rooms"]) == (ada.sid, "ada", [])
        assert info["connected_at"] > 0
        assert await manager.get_session(ada.sid) == info
        assert await manager.get_session("no such sid") is None
        assert await manager.get_session() is None

    async def test_the_server_notes_what_it_likes_about_a_connection(
        self, manager: WebSocketManager, connect: Connect
    ) -> None:
        async def note(sid: str, data: Any) -> Any:
            assert await manager.set_metadata(data)
            session = await manager.get_session()
            return session["metadata"] if session is not None else None

        await manager.register_handler("note", note)
        ada = await connect("ada")
        noted: dict[str, Any] = {"device": "phone", "tags": ["a"]}
        assert await manager.set_metadata(noted, ada.sid)
        noted["tags"].append("later")
        assert await ada.emit(None, "note", {"device": None, "tab": 2}) == {"tags": ["a"], "tab": 2}
        (info,) = await manager.list_sessions("ada")
        assert info["metadata"] == {"tags": ["a"], "tab": 2}
        assert not await manager.set_metadata({"a": 1}, "no such sid")
        with pytest.raises(InvalidInput):
            await manager.set_metadata({"a": object()}, ada.sid)

    async def test_an_event_reaches_everyone_in_its_room_and_nobody_else(
        self, manager: WebSocketManager, connect: Connect
    ) -> None:
        ada, bob, eve = [await connect(user) for user in ("ada", "bob", "eve")]
        await ada.join("news")
        await bob.join("news")
        await eve.join("other")
        assert await manager.emit_to_room("news", "headline", {"n": [1, "zwei", None]}) == 2
        assert await within(ada.event()) == ("news", "headline", {"n": [1, "zwei", None]})
        assert await within(bob.event()) == ("news", "headline", {"n": [1, "zwei", None]})
        assert await manager.emit_to_room("other", "marker", 1) == 1
        assert await within(eve.event()) == ("other", "marker", 1)

    async def test_events_arrive_in_the_order_in_which_they_were_emitted(
        self, manager: WebSocketManager, connect: Connect
    ) -> None:
        ada = await connect("ada")
        await ada.join("news")
        for number in range(100):
            assert await manager.emit_to_room("news", "tick", number) == 1
        assert [(await within(ada.event()))[2] for _ in range(100)] == list(range(100))

    async def test_nobody_is_in_an_empty_room(self, manager: WebSocketManager) -> None:
        assert await manager.emit_to_room("nowhere", "event", None) == 0
        assert await manager.get_room_info("nowhere") == room_of("nowhere")
        assert await manager.list_rooms() == []

    async def test_a_room_counts_users_once_and_connections_each(
        self, manager: WebSocketManager, connect: Connect
    ) -> None:
        for user in ("bob", "ada", "ada"):
            await (await connect(user)).join("news")
        assert await manager.get_room_info("news") == room_of("news", ada=2, bob=1)
        assert await manager.list_rooms() == ["news"]

    async def test_joining_twice_is_being_in_once(self, manager: WebSocketManager, connect: Connect) -> None:
        ada = await connect("ada")
        await ada.join("news")
        await ada.join("news")
        assert await manager.emit_to_room("news", "event", 1) == 1

    async def test_leaving_ends_events(self, manager: WebSocketManager, connect: Connect) -> None:
        ada = await connect("ada")
        await ada.join("news")
        await ada.leave("news")
        assert await manager.emit_to_room("news", "event", 1) == 0
        assert await manager.list_rooms() == []

    async def test_the_server_puts_connections_into_rooms_and_takes_them_out(
        self, manager: WebSocketManager, connect: Connect
    ) -> None:
        ada = await connect("ada")
        assert await manager.join_room("chosen", ada.sid)
        assert await manager.emit_to_room("chosen", "event", 1) == 1
        assert await manager.leave_room("chosen", ada.sid)
        assert not await manager.leave_room("chosen", ada.sid)
        assert not await manager.join_room("chosen", "no such sid")
        assert not await manager.join_room("chosen")

    async def test_clients_emit_to_rooms_that_they_are_in(self, connect: Connect) -> None:
        ada, bob = await connect("ada"), await connect("bob")
        await bob.join("chat")
        with pytest.raises(Refused):
            await ada.emit("chat", "line", "hello")
        await ada.join("chat")
        await ada.emit("chat", "line", "hello again")
        assert await within(bob.event()) == ("chat", "line", "hello again")

    async def test_the_room_of_a_user_is_theirs(self, manager: WebSocketManager, connect: Connect) -> None:
        ada, eve, admin = await connect("ada"), await connect("eve"), await connect("root", ("rooms.*",))
        await ada.join("user_ada")
        await admin.join("user_ada")
        with pytest.raises(Refused):
            await eve.join("user_ada")
        assert (await manager.get_room_info("user_ada"))["users"] == ["ada", "root"]

    async def test_plugins_decide_on_rooms(self, manager: WebSocketManager, connect: Connect) -> None:
        async def allow(principal: Principal, room: str, operation: str) -> bool | None:
            return True if room in ("user_ada", "closed") else None

        def refuse(principal: Principal, room: str, operation: str) -> bool | None:
            return False if room == "closed" or (room == "readonly" and operation == "emit") else None

        def fail(principal: Principal, room: str, operation: str) -> bool | None:
            if room == "broken":
                raise RuntimeError("cannot decide")
            return None

        manager.bind_authorizers([allow, refuse, fail])
        eve = await connect("eve")
        await eve.join("user_ada")
        await eve.join("plain")
        for room in ("closed", "user_bob", "broken"):
            with pytest.raises(Refused):
                await eve.join(room)
        await eve.join("readonly")
        with pytest.raises(Refused):
            await eve.emit("readonly", "line", 1)

    async def test_handlers_answer_events(self, manager: WebSocketManager, connect: Connect) -> None:
        async def double(sid: str, data: Any) -> Any:
            return {"sid": sid, "twice": data * 2}

        def whoami(sid: str, data: Any) -> Any:
            request = current_request()
            return [request.source, request.principal.user_id] if request is not None else None

        assert await manager.register_handler("double", double)
        assert not await manager.register_handler("double", whoami)
        assert await manager.register_handler("whoami", whoami)
        ada = await connect("ada")
        assert await ada.emit(None, "double", 21) == {"sid": ada.sid, "twice": 42}
        assert await ada.emit(None, "whoami", None) == ["websocket", "ada"]

    async def test_a_handler_that_raises_tells_nothing_and_ends_nothing(
        self, manager: WebSocketManager, connect: Connect
    ) -> None:
        async def fail(sid: str, data: Any) -> Any:
            raise RuntimeError("the secret of the handler")

        await manager.register_handler("fail", fail)
        ada = await connect("ada")
        with pytest.raises(Refused) as caught:
            await ada.emit(None, "fail", None)
        assert "secret" not in str(caught.value)
        await ada.join("still here")

    async def test_a_handler_joins_the_connection_being_served(
        self, manager: WebSocketManager, connect: Connect
    ) -> None:
        async def enter(sid: str, data: Any) -> Any:
            return await manager.join_room(data)

        await manager.register_handler("enter", enter)
        ada, bob = await connect("ada"), await connect("bob")
        assert await ada.emit(None, "enter", "lounge") is True
        assert await manager.emit_to_room("lounge", "event", 1) == 1
        assert (await manager.get_room_info("lounge"))["users"] == ["ada"]
        assert await bob.emit(None, "enter", "lounge") is True

    async def test_actions_run_as_the_principal(self, manager: WebSocketManager, connect: Connect) -> None:
        async def run(name: str, args: Mapping[str, Any] | None = None) -> Any:
            request = current_request()
            assert request is not None
            if name == "forbidden":
                raise PermissionDenied("You may not.", ["x.y"])
            return {"name": name, "args": dict(args or {}), "user": request.principal.user_id}

        manager.bind(run)
        ada = await connect("ada")
        assert await ada.call("pack.act", {"a": 1}) == {"name": "pack.act", "args": {"a": 1}, "user": "ada"}
        with pytest.raises(Refused):
            await ada.call("forbidden", {})

    async def test_a_connection_that_ends_leaves_its_rooms(self, manager: WebSocketManager, connect: Connect) -> None:
        ada, bob = await connect("ada"), await connect("bob")
        await ada.join("news")
        await bob.join("news")
        await ada.close()
        await within(until(lambda: manager.list_sessions("ada"), lambda sessions: not sessions))
        assert await manager.get_room_info("news") == room_of("news", bob=1)

    async def test_the_server_disconnects(self, manager: WebSocketManager, connect: Connect) -> None:
        ada = await connect("ada")
        assert await manager.disconnect(ada.sid, code=4123, reason="enough")
        await within(ada.closed())
        await within(until(lambda: manager.list_sessions("ada"), lambda sessions: not sessions))
        assert not await manager.disconnect(ada.sid)

    async def test_what_is_not_json_cannot_be_emitted(self, manager: WebSocketManager, connect: Connect) -> None:
        ada = await connect("ada")
        await ada.join("news")
        with pytest.raises(InvalidInput):
            await manager.emit_to_room("news", "event", object())
        for room, event in (("", "event"), ("news", ""), ("x" * 201, "event"), ("news", "line\nbreak")):
            with pytest.raises(InvalidInput):
                await manager.emit_to_room(room, event, None)

    async def test_draining_tells_when_to_come_back_and_closes_everything(
        self, manager: WebSocketManager, connect: Connect
    ) -> None:
        clients = [await connect(f"user{number}") for number in range(3)]
        await within(manager.drain())
        for client in clients:
            assert (await within(client.told("reconnect")))["after"] >= 0
            await within(client.closed())
        assert await manager.list_sessions() == []

    async def test_health_counts_connections(self, manager: WebSocketManager, connect: Connect) -> None:
        await connect("ada")
        report = await manager.health_check()
        assert report["status"] == "healthy"
        assert report["metrics"]["connections"] == 1
