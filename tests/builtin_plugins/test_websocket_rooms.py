"""Rooms of the provider ``native`` in one process: kinds, limits, history, and tokens that are revoked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from base04.testing.conformance.websocket_client import Refused, within
from base04_builtin.websocket.native import NativeWebSocketManager
from base04_builtin.websocket.policies import room_policies
from base04_builtin.websocket.settings import NativeSettings
from base04_hookspecs import Principal
from base04_hookspecs.errors import ManagerUnavailable
from websocket_kit import NativeClient, Site, TableJWT, eventually, site

# Kinds


@pytest.mark.parametrize(
    ("room", "kind"),
    [
        ("news", "dynamic"),
        ("user_ada", "user"),
        ("private_talk", "private"),
        ("staff_kitchen", "private"),
        ("staff_", "private"),
        ("xstaff_", "dynamic"),
        ("chat_1", "public"),
        ("chat_12", "dynamic"),
        ("chat_staff", "dynamic"),
        ("private_open", "public"),
        ("user_open", "user"),
        ("[a]", "public"),
        ("a", "dynamic"),
    ],
)
def test_kind_of_a_room_is_in_its_name(room: str, kind: str) -> None:
    rooms = [
        {"match": "staff_*", "access": "private"},
        {"match": "chat_?"},
        {"match": "private_open"},
        {"match": "user_open"},
        {"match": "[a]"},
    ]
    assert room_policies(NativeSettings.model_validate({"rooms": rooms}))(room).kind == kind


def test_first_entry_that_matches_counts_and_the_rest_is_as_for_all_rooms() -> None:
    rooms = [{"match": "a*", "history_messages": 20}, {"match": "*", "history_age": "1h", "message_rate": 2}]
    policy_of = room_policies(NativeSettings.model_validate({"rooms": rooms, "history_bytes": 2048}))
    first, other = policy_of("abc"), policy_of("b")
    assert (first.history_messages, first.age_ms, first.history_bytes, first.message_rate) == (20, 300_000, 2048, None)
    assert (other.history_messages, other.age_ms, other.message_rate) == (100, 3_600_000, 2)


async def test_private_room_is_for_whom_a_plugin_lets_in_and_for_permissions() -> None:
    def members_only(principal: Principal, room: str, operation: str) -> bool | None:
        return True if principal.user_id == "ada" and operation == "join" else None

    async with site() as place:
        place.manager.bind_authorizers([members_only])
        ada, eve, admin = [
            await place.connect(user, permissions)
            for user, permissions in (("ada", ()), ("eve", ()), ("root", ("rooms.*",)))
        ]
        await ada.join("private_talk")
        await admin.join("private_talk")
        with pytest.raises(Refused, match="forbidden"):
            await eve.join("private_talk")
        with pytest.raises(Refused, match="forbidden"):
            await ada.emit("private_talk", "line", 1)
        await admin.emit("private_talk", "line", 1)
        assert await ada.event() == ("private_talk", "line", 1)


async def test_rooms_that_the_settings_do_not_name_can_be_switched_off() -> None:
    async with site(dynamic_rooms=False, rooms=[{"match": "lobby"}]) as place:
        client = await place.connect("ada")
        await client.join("lobby")
        await client.join("user_ada")
        with pytest.raises(Refused, match="forbidden"):
            await client.join("cellar")
        assert await place.manager.join_room("cellar", client.sid)


# Limits


async def test_messages_into_one_room_are_limited_for_all_together() -> None:
    async with site(rooms=[{"match": "slow", "message_rate": 0.001, "message_burst": 2}]) as place:
        ada, bob = await place.connect("ada"), await place.connect("bob")
        for client in (ada, bob):
            await client.join("slow")
            await client.join("other")
        await ada.emit("slow", "line", 1)
        await bob.emit("slow", "line", 2)
        await bob.send(type="emit", id="x", room="slow", event="line", data=3)
        while (answer := await bob.receive())["type"] != "error":
            pass
        assert (answer["error"]["code"], answer["error"]["room"]) == ("rate_limited", "slow")
        assert 0 < answer["error"]["retry_after"] <= 1000
        await bob.emit("other", "line", 4)
        assert await place.manager.emit_to_room("slow", "line", "the server may") == 2


@pytest.mark.parametrize(
    "since", ["x", 1, {}, {"epoch": "e"}, {"epoch": "e", "offset": -1}, {"epoch": "", "offset": 1}]
)
async def test_position_that_is_none_is_refused(since: Any) -> None:
    async with site() as place:
        client = await place.connect("ada")
        with pytest.raises(Refused, match="invalid_message"):
            await client.ask(type="join", room="news", since=since)
        with pytest.raises(Refused, match="invalid_message"):
            await client.ask(type="join", room="news", presence="yes")
        assert await place.manager.list_rooms() == []


async def test_who_asks_for_it_no_more_hears_no_more_of_who_comes() -> None:
    async with site() as place:
        ada, bob = await place.connect("ada"), await place.connect("bob")
        await ada.join("news", presence=True)
        await ada.ask(type="join", room="news")  # says nothing of presence, and changes nothing
        await bob.join("news")
        assert (await ada.told("presence"))["event"] == "join"
        await ada.ask(type="join", room="news", presence=False)
        await bob.leave("news")
        await place.manager.emit_to_room("news", "tick", 1)
        assert (await ada.receive())["type"] == "event"


# History


@pytest.mark.parametrize(
    ("settings", "kept"), [({"history_messages": 16}, 16), ({"history_bytes": 2048}, 8), ({"history_age": 0.001}, 0)]
)
async def test_history_is_bounded(settings: dict[str, Any], kept: int) -> None:
    async with site(**settings) as place:
        for number in range(40):
            await place.manager.emit_to_room("news", "tick", f"{number:03}" + "x" * 147)

        async def bounded() -> bool:
            history = await place.manager.room_history("news")
            numbers = [int(event["data"][:3]) for event in history["events"]]
            assert numbers == list(range(40 - len(numbers), 40))
            assert (history["offset"], history["complete"]) == (40, len(numbers) == 40)
            return len(numbers) == kept or (kept > 1 and abs(len(numbers) - kept) <= 2)

        await eventually(bounded)


async def test_history_of_all_rooms_together_is_bounded() -> None:
    async with site(history_total_bytes=100_000) as place:
        for number in range(300):
            await place.manager.emit_to_room(f"room {number}", "tick", "x" * 1000)
        assert (await place.manager.room_history("room 0"))["events"] == []
        assert (await place.manager.room_history("room 299"))["complete"]


async def test_member_of_a_room_whose_log_was_lost_is_told_of_the_gap() -> None:
    async with site(history_total_bytes=20_000) as place:
        client = await place.connect("ada")
        await client.join("first")
        await place.manager.emit_to_room("first", "tick", 1)
        await client.event()
        before = client.position("first")
        for number in range(100):
            await place.manager.emit_to_room(f"room {number}", "tick", "x" * 1000)
        assert await place.manager.emit_to_room("first", "tick", 2) == 1
        gap = await client.told("gap")
        assert (gap["room"], gap["epoch"] != before["epoch"], gap["offset"]) == ("first", True, 0)
        assert await client.event() == ("first", "tick", 2)


async def test_concurrent_joins_and_events_leave_nothing_out() -> None:
    async with site() as place:
        first = await place.connect("first")
        await first.join("news")
        await place.manager.emit_to_room("news", "tick", 0)
        await first.event()
        start = first.position("news")
        clients = [await place.connect(f"user{number}") for number in range(5)]

        async def emit(begin: int) -> None:
            for number in range(begin, begin + 20):
                await place.manager.emit_to_room("news", "tick", number)

        await asyncio.gather(emit(1), emit(21), *(client.join("news", since=start) for client in clients), emit(41))
        for client in clients:
            offsets = [(await client.event_message())["offset"] for _ in range(60)]
            assert offsets == list(range(2, 62))


# Tokens


class TellingJWT(TableJWT):
    """Tells of revocations, and counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.callbacks: list[Callable[[], None]] = []
        self.asked = 0

    def watch_revocations(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)

    async def validate_token(self, token: str) -> dict[str, Any]:
        self.asked += 1
        return await super().validate_token(token)


async def two_clients(place: Site) -> tuple[NativeClient, NativeClient]:
    return await place.connect("ada"), await place.connect("bob")


async def test_connection_is_closed_when_its_revocation_is_told() -> None:
    jwt = TellingJWT()
    async with site(jwt, revocation_interval=60) as place:
        ada, bob = await two_clients(place)
        token = next(token for token in jwt.claims if token.startswith("ada"))
        jwt.revoked.add(token)
        for callback in jwt.callbacks:
            callback()
        assert await ada.closed() == 4411
        await bob.join("still here")
    assert jwt.callbacks == []


async def test_revocation_that_cannot_be_looked_up_is_looked_up_again() -> None:
    jwt = TellingJWT()
    async with site(jwt, revocation_interval=60) as place:
        ada, _ = await two_clients(place)
        jwt.failure = ManagerUnavailable("down")
        jwt.revoked.update(token for token in jwt.claims if token.startswith("ada"))
        asked = jwt.asked
        jwt.callbacks[0]()

        async def tried() -> bool:
            return jwt.asked > asked

        await eventually(tried)
        jwt.failure = None
        assert await ada.closed() == 4411


async def test_revocation_that_nobody_told_is_found_by_asking_for_some_at_a_time() -> None:
    jwt = TellingJWT()
    async with site(jwt, revocation_interval=0.005) as place:
        ada, _ = await two_clients(place)
        jwt.revoked.update(token for token in jwt.claims if token.startswith("ada"))
        assert await within(ada.closed()) == 4411


async def test_client_that_has_missed_more_than_its_queue_holds_gets_it_all() -> None:
    async with site(history_messages=500, history_bytes=10_000_000, send_queue_messages=4) as place:
        ada = await place.connect("ada")
        await ada.join("news")
        await place.manager.emit_to_room("news", "tick", 0)
        await ada.event()
        start = ada.position("news")
        await ada.leave("news")
        for number in range(1, 301):
            await place.manager.emit_to_room("news", "tick", [number, "x" * 5000])
        joining = asyncio.create_task(ada.join("news", since=start))
        joined = await within(joining)
        assert joined.get("recovered") is True
        assert [(await ada.event())[2][0] for _ in range(300)] == list(range(1, 301))
        assert (await place.manager.health_check())["metrics"]["slow_readers"] == 0


async def test_event_whose_emitter_is_cancelled_reaches_everyone_or_nobody() -> None:
    async with site() as place:
        clients = [await place.connect(f"user{number}") for number in range(3)]
        for client in clients:
            await client.join("news")
        for number in range(10):
            emitting = asyncio.create_task(place.manager.emit_to_room("news", "tick", number))
            await asyncio.sleep(0)
            emitting.cancel()
            await asyncio.gather(emitting, return_exceptions=True)
        await place.manager.emit_to_room("news", "tick", "the last")
        seen: list[list[tuple[str, str, Any]]] = []
        for client in clients:
            seen.append([])
            while not seen[-1] or seen[-1][-1][2] != "the last":
                seen[-1].append(await client.event())
        assert seen[0] == seen[1] == seen[2]


async def test_emitting_without_start_or_after_stop_leaves_nothing_running() -> None:
    manager = NativeWebSocketManager(NativeSettings(), TableJWT(), None)
    assert await manager.emit_to_room("news", "tick", 1) == 0
    await manager.start()
    await manager.stop()
    assert await manager.emit_to_room("news", "tick", 1) == 0
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("websocket")]
