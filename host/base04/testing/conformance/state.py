"""What every provider of the role ``state`` does."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from typing import Any, ClassVar

import pytest

from base04.testing.conformance.declared import DeclaredCapabilities
from base04_hookspecs import Principal, RequestContext
from base04_hookspecs.context import use_request
from base04_hookspecs.errors import Conflict, InvalidInput, NotFound, NotSupported
from base04_hookspecs.state import State, StateChange, StateManager, StateTransition, StateType


class StateConformance(DeclaredCapabilities):
    """Subclass with a fixture ``manager`` (started, with no states) and the declared ``capabilities``."""

    known_capabilities: ClassVar[frozenset[str]] = frozenset({"ttl", "durable_callbacks", "watch"})

    async def register(self, manager: StateManager, state_id: str = "s", **data: Any) -> None:
        """Register a session."""
        assert await manager.register_state(state_id, StateType.SESSION, data) is True

    async def state(self, manager: StateManager, state_id: str = "s") -> State:
        """Return a state that must be there."""
        state = await manager.get_state(state_id)
        assert state is not None
        return state

    async def test_health_report_names_the_database(self, manager: StateManager) -> None:
        report = await manager.health_check()
        assert report["status"] == "healthy"
        assert report["dependencies"]["database"] == "healthy"

    async def test_registered_state_is_complete(self, manager: StateManager) -> None:
        before = time.time()
        assert await manager.register_state("s", StateType.USER, {"a": [1, {"b": None}]}, ["update", "delete"]) is True
        state = await self.state(manager)
        assert before - 1 <= state["created_at"] == state["updated_at"] <= time.time() + 1
        assert state == {
            "state_id": "s",
            "state_type": "user",
            "status": "active",
            "version": 1,
            "data": {"a": [1, {"b": None}]},
            "allowed_transitions": ["update", "delete"],
            "created_at": state["created_at"],
            "updated_at": state["updated_at"],
            "expires_at": None,
        }

    async def test_taken_id_changes_nothing(self, manager: StateManager) -> None:
        await self.register(manager, a=1)
        assert await manager.register_state("s", StateType.USER, {"a": 2}) is False
        state = await self.state(manager)
        assert (state["state_type"], state["data"], state["version"]) == ("session", {"a": 1}, 1)
        assert len(await manager.get_state_history("s")) == 1

    async def test_one_of_many_registrations_wins(self, manager: StateManager) -> None:
        outcomes = await asyncio.gather(*(manager.register_state("s", "user", {"n": n}) for n in range(20)))
        assert outcomes.count(True) == 1
        assert (await self.state(manager))["data"] == {"n": outcomes.index(True)}

    async def test_unknown_state_is_none(self, manager: StateManager) -> None:
        assert await manager.get_state("s") is None
        assert await manager.get_state("s", fresh=True) is None
        assert await manager.delete_state("s") is False
        assert await manager.get_state_history("s") == []
        with pytest.raises(NotFound, match="'s'"):
            await manager.update_state("s", {})
        with pytest.raises(NotFound):
            await manager.replace_state("s", {})

    @pytest.mark.parametrize("state_id", ["", "a\0b", "a\nb", "x" * 256, "user_*", "type:session", None, 3])
    async def test_id_that_cannot_be_is_refused(self, manager: StateManager, state_id: Any) -> None:
        with pytest.raises(InvalidInput):
            await manager.register_state(state_id, StateType.USER, {})
        with pytest.raises(InvalidInput):
            await manager.get_state(state_id)

    @pytest.mark.parametrize(
        "arguments",
        [
            {"state_type": "sesion"},
            {"state_type": None},
            {"initial_data": None},
            {"initial_data": [1]},
            {"initial_data": {"a": math.nan}},
            {"initial_data": {"a": object()}},
            {"initial_data": {1: "a"}},
            {"allowed_transitions": ["fly"]},
            {"allowed_transitions": "update"},
            {"ttl": 0},
            {"ttl": -1},
            {"ttl": math.nan},
            {"ttl": math.inf},
            {"ttl": True},
            {"ttl": "60"},
        ],
    )
    async def test_registration_that_means_nothing_is_refused(
        self, manager: StateManager, arguments: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidInput):
            await manager.register_state(**({"state_id": "s", "state_type": "user", "initial_data": {}} | arguments))
        assert await manager.get_state("s") is None

    async def test_update_merges_and_replace_replaces(self, manager: StateManager) -> None:
        await self.register(manager, a=1, b={"c": 1})
        assert await manager.update_state("s", {"b": {"d": 2}, "e": 3}) is True
        assert (await self.state(manager))["data"] == {"a": 1, "b": {"d": 2}, "e": 3}
        assert await manager.replace_state("s", {"f": 4}) is True
        state = await self.state(manager)
        assert (state["data"], state["version"]) == ({"f": 4}, 3)

    async def test_returned_state_is_a_copy(self, manager: StateManager) -> None:
        await self.register(manager, a=[1])
        (await self.state(manager))["data"]["a"].append(2)
        assert (await self.state(manager))["data"] == {"a": [1]}

    async def test_concurrent_updates_lose_nothing(self, manager: StateManager) -> None:
        await self.register(manager)
        await asyncio.gather(*(manager.update_state("s", {str(n): n}) for n in range(25)))
        state = await self.state(manager)
        assert state["data"] == {str(n): n for n in range(25)}
        assert state["version"] == 26
        history = await manager.get_state_history("s")
        assert [change["version"] for change in history] == list(range(26, 0, -1))
        assert all(newer["before"] == older["after"] for newer, older in itertools.pairwise(history))

    async def test_one_of_many_transitions_wins(self, manager: StateManager) -> None:
        await self.register(manager)
        outcomes = await asyncio.gather(
            *(manager.update_state("s", {"by": n}, StateTransition.SUSPEND) for n in range(20)), return_exceptions=True
        )
        assert outcomes.count(True) == 1
        assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 19
        assert (await self.state(manager))["data"] == {"by": outcomes.index(True)}

    async def test_one_of_many_with_an_expected_version_wins(self, manager: StateManager) -> None:
        await self.register(manager)
        outcomes = await asyncio.gather(
            *(manager.update_state("s", {"by": n}, expected_version=1) for n in range(20)), return_exceptions=True
        )
        assert outcomes.count(True) == 1
        assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 19
        assert (await self.state(manager))["version"] == 2

    async def test_unexpected_version_is_a_conflict(self, manager: StateManager) -> None:
        await self.register(manager, a=1)
        await manager.update_state("s", {"a": 2}, expected_version=1)
        with pytest.raises(Conflict, match="version 2"):
            await manager.update_state("s", {"a": 3}, expected_version=1)
        with pytest.raises(Conflict):
            await manager.replace_state("s", {"a": 3}, expected_version=3)
        with pytest.raises(Conflict):
            await manager.delete_state("s", expected_version=1)
        assert (await self.state(manager))["data"] == {"a": 2}

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ([], "active"),
            (["update"], "active"),
            (["suspend"], "suspended"),
            (["suspend", "update"], "suspended"),
            (["suspend", "resume"], "active"),
            (["deactivate"], "inactive"),
            (["deactivate", "activate"], "active"),
            (["expire"], "expired"),
            (["suspend", "expire"], "expired"),
            (["expire", "renew"], "active"),
            (["renew"], "active"),
        ],
    )
    async def test_transitions_lead_to_their_status(self, manager: StateManager, path: list[str], status: str) -> None:
        await self.register(manager)
        for transition in path:
            assert await manager.update_state("s", {}, transition) is True
        state = await self.state(manager)
        assert (state["status"], state["version"]) == (status, 1 + len(path))

    @pytest.mark.parametrize(
        ("path", "refused", "from_status", "to_status"),
        [
            ([], "activate", "active", "active"),
            ([], "resume", "active", "active"),
            (["suspend"], "suspend", "suspended", "suspended"),
            (["suspend"], "deactivate", "suspended", "inactive"),
            (["expire"], "update", "expired", "active"),
            (["expire"], "activate", "expired", "active"),
            (["deactivate"], "resume", "inactive", "active"),
        ],
    )
    async def test_transition_that_is_not_allowed_names_both_ends(
        self, manager: StateManager, path: list[str], refused: str, from_status: str, to_status: str
    ) -> None:
        await self.register(manager)
        for transition in path:
            await manager.update_state("s", {}, transition)
        with pytest.raises(Conflict) as caught:
            await manager.update_state("s", {"lost": 1}, refused)
        assert all(repr(name) in str(caught.value) for name in (refused, from_status, to_status))
        state = await self.state(manager)
        assert (state["status"], state["data"], state["version"]) == (from_status, {}, 1 + len(path))

    @pytest.mark.parametrize("transition", ["fly", "create", "delete", 3, ""])
    async def test_unknown_transition_is_refused(self, manager: StateManager, transition: Any) -> None:
        await self.register(manager)
        with pytest.raises(InvalidInput):
            await manager.update_state("s", {}, transition)

    async def test_allowed_transitions_narrow(self, manager: StateManager) -> None:
        await manager.register_state("s", "session", {}, ["update", StateTransition.EXPIRE])
        await manager.update_state("s", {})
        with pytest.raises(Conflict, match="update, expire"):
            await manager.update_state("s", {}, "suspend")
        with pytest.raises(Conflict, match="delete"):
            await manager.delete_state("s")
        await manager.update_state("s", {}, "expire")
        assert (await self.state(manager))["status"] == "expired"

    async def test_plugins_add_transitions_to_a_type(self, manager: StateManager) -> None:
        assert await manager.register_transitions("feature", {"promote": {"active": "promoted"}}) is True
        await manager.register_state("f", StateType.FEATURE, {})
        await self.register(manager)
        await manager.update_state("f", {}, "promote")
        assert (await self.state(manager, "f"))["status"] == "promoted"
        with pytest.raises(InvalidInput):
            await manager.update_state("s", {}, "promote")
        assert await manager.delete_state("f") is True

    async def test_plugins_add_types(self, manager: StateManager) -> None:
        await manager.register_transitions("order", {"ship": {"active": "shipped"}})
        assert await manager.register_state("o", "order", {}, ["ship"]) is True
        assert await manager.update_state("o", {}, "ship") is True
        state = await self.state(manager, "o")
        assert (state["state_type"], state["status"]) == ("order", "shipped")

    @pytest.mark.parametrize(
        "transitions",
        [{"Bad Name": {"active": "x"}}, {"ship": {}}, {"ship": {"active": "deleted"}}, {"create": {"a": "b"}}, None],
    )
    async def test_transitions_that_mean_nothing_are_refused(self, manager: StateManager, transitions: Any) -> None:
        with pytest.raises(InvalidInput):
            await manager.register_transitions("order", transitions)

    async def test_standard_transitions_stay(self, manager: StateManager) -> None:
        with pytest.raises(Conflict, match="suspended"):
            await manager.register_transitions("user", {"suspend": {"active": "gone"}})

    async def test_history_tells_who_did_what(self, manager: StateManager) -> None:
        await self.register(manager, a=1)
        with use_request(RequestContext("request-1", Principal("ada", method="token"))):
            await manager.update_state("s", {"b": 2}, StateTransition.SUSPEND)
        await manager.delete_state("s")
        deleted, suspended, created = await manager.get_state_history("s")
        assert created["transition"] == "create"
        assert (created["from_status"], created["to_status"]) == (None, "active")
        assert (created["before"], created["after"]) == (None, {"a": 1})
        assert (created["actor"], created["request_id"]) == (None, None)
        assert {key: value for key, value in suspended.items() if key not in ("event_id", "at")} == {
            "state_id": "s",
            "version": 2,
            "transition": "suspend",
            "from_status": "active",
            "to_status": "suspended",
            "before": {"a": 1},
            "after": {"a": 1, "b": 2},
            "actor": "ada",
            "request_id": "request-1",
        }
        assert (deleted["transition"], deleted["to_status"], deleted["version"]) == ("delete", "deleted", 3)
        assert (deleted["before"], deleted["after"]) == ({"a": 1, "b": 2}, None)
        assert len({change["event_id"] for change in (created, suspended, deleted)}) == 3
        assert created["at"] <= suspended["at"] <= deleted["at"]

    async def test_history_comes_in_pages(self, manager: StateManager) -> None:
        await self.register(manager)
        for n in range(4):
            await manager.update_state("s", {"n": n})
        assert [change["version"] for change in await manager.get_state_history("s", 2)] == [5, 4]
        assert [change["version"] for change in await manager.get_state_history("s", 2, before_version=4)] == [3, 2]
        assert await manager.get_state_history("s", 0) == []
        with pytest.raises(InvalidInput):
            await manager.get_state_history("s", -1)

    async def test_versions_go_on_after_a_deletion(self, manager: StateManager) -> None:
        await self.register(manager, life=1)
        assert await manager.delete_state("s", expected_version=1) is True
        assert await manager.get_state("s") is None
        await self.register(manager, life=2)
        assert (await self.state(manager))["version"] == 3
        with pytest.raises(Conflict):
            await manager.update_state("s", {}, expected_version=1)
        assert [change["version"] for change in await manager.get_state_history("s")] == [3, 2, 1]

    async def test_life_is_there_if_declared(self, manager: StateManager) -> None:
        if "ttl" in self.capabilities:
            assert await manager.register_state("s", "session", {}, ttl=1000) is True
            assert (await self.state(manager))["expires_at"] is not None
            return
        with pytest.raises(NotSupported):
            await manager.register_state("s", "session", {}, ttl=1000)
        await self.register(manager)
        with pytest.raises(NotSupported):
            await manager.update_state("s", {}, ttl=1000)
        assert (await self.state(manager))["version"] == 1

    async def test_expired_state_says_so_until_it_is_renewed(self, manager: StateManager) -> None:
        if "ttl" not in self.capabilities:
            pytest.skip("the provider does not let states expire")
        await manager.register_state("s", "session", {"a": 1}, ttl=0.01)
        expires_at = (await self.state(manager))["expires_at"]
        assert expires_at is not None
        await asyncio.sleep(max(0.0, expires_at - time.time()) + 0.01)
        assert (await self.state(manager))["status"] == "expired"
        with pytest.raises(Conflict, match="expired"):
            await manager.update_state("s", {"a": 2})
        assert await manager.register_state("s", "session", {}) is False
        with pytest.raises(InvalidInput, match="ttl"):
            await manager.update_state("s", {}, "renew")
        assert await manager.update_state("s", {"a": 3}, "renew", ttl=1000) is True
        state = await self.state(manager)
        assert (state["status"], state["data"]) == ("active", {"a": 3})
        assert state["expires_at"] is not None
        assert state["expires_at"] > time.time()

    async def test_expiry_stays_without_a_ttl(self, manager: StateManager) -> None:
        if "ttl" not in self.capabilities:
            pytest.skip("the provider does not let states expire")
        await manager.register_state("s", "session", {}, ttl=1000)
        first = (await self.state(manager))["expires_at"]
        await manager.update_state("s", {"a": 1})
        assert (await self.state(manager))["expires_at"] == first
        await manager.update_state("s", {"a": 1}, ttl=5000)
        later = (await self.state(manager))["expires_at"]
        assert first is not None
        assert later is not None
        assert later > first + 1000

    async def test_callbacks_hear_of_an_id_a_prefix_and_a_type(self, manager: StateManager) -> None:
        heard: list[tuple[str, str, int]] = []

        def listener(name: str) -> Any:
            async def listen(change: StateChange) -> None:
                heard.append((name, change["state_id"], change["version"]))

            return listen

        for pattern in ("user_1", "user_*", "type:session"):
            assert await manager.register_callback(pattern, listener(pattern)) is True
        await self.register(manager, "user_1")
        await self.register(manager, "user_2")
        await manager.register_state("other", "feature", {})
        await manager.delete_state("user_1")
        assert sorted(heard) == [
            ("type:session", "user_1", 1),
            ("type:session", "user_1", 2),
            ("type:session", "user_2", 1),
            ("user_*", "user_1", 1),
            ("user_*", "user_1", 2),
            ("user_*", "user_2", 1),
            ("user_1", "user_1", 1),
            ("user_1", "user_1", 2),
        ]

    async def test_callback_hears_in_order_of_versions(self, manager: StateManager) -> None:
        heard: list[int] = []
        done = asyncio.Event()

        async def listen(change: StateChange) -> None:
            await asyncio.sleep(0)
            heard.append(change["version"])
            if len(heard) == 16:
                done.set()

        await manager.register_callback("s", listen)
        await self.register(manager)
        await asyncio.gather(*(manager.update_state("s", {"n": n}) for n in range(15)))
        async with asyncio.timeout(10):
            await done.wait()
        assert heard == list(range(1, 17))

    async def test_callback_that_raises_stops_nothing(self, manager: StateManager) -> None:
        heard: list[int] = []

        async def broken(change: StateChange) -> None:
            change["data"] = "mine"  # type: ignore[typeddict-unknown-key]  # each callback has its own copy
            raise RuntimeError("broken")

        def plain(change: StateChange) -> None:
            assert "data" not in change
            heard.append(change["version"])

        await manager.register_callback("s", broken)
        await manager.register_callback("s", plain)
        await self.register(manager)
        assert await manager.update_state("s", {}) is True
        assert heard == [1, 2]

    async def test_callback_may_change_the_state_it_hears_of(self, manager: StateManager) -> None:
        async def listen(change: StateChange) -> None:
            if change["version"] == 1:
                await manager.update_state("s", {"seen": True})

        await manager.register_callback("s", listen)
        async with asyncio.timeout(10):
            await self.register(manager)
        assert (await self.state(manager))["data"] == {"seen": True}

    async def test_refused_change_calls_nobody_back(self, manager: StateManager) -> None:
        heard: list[StateChange] = []
        await self.register(manager)
        await manager.register_callback("s", heard.append)
        with pytest.raises(Conflict):
            await manager.update_state("s", {}, "resume")
        assert heard == []

    async def test_unregistered_callback_hears_nothing(self, manager: StateManager) -> None:
        heard: list[StateChange] = []
        assert await manager.register_callback("s", heard.append) is True
        assert await manager.register_callback("s", heard.append) is False
        assert await manager.unregister_callback("s", heard.append) is True
        assert await manager.unregister_callback("s", heard.append) is False
        await self.register(manager)
        assert heard == []

    @pytest.mark.parametrize("pattern", ["", "a*b", "type:", "type:se*", None])
    async def test_pattern_that_means_nothing_is_refused(self, manager: StateManager, pattern: Any) -> None:
        with pytest.raises(InvalidInput):
            await manager.register_callback(pattern, print)

    async def test_durable_callbacks_are_there_where_declared(self, manager: StateManager) -> None:
        if "durable_callbacks" in self.capabilities:
            assert await manager.register_callback("s", print, name="conformance") is True
            assert await manager.register_callback("s", print, name="conformance") is False
            others: list[StateChange] = []
            with pytest.raises(Conflict):
                await manager.register_callback("s", others.append, name="conformance")
            assert await manager.forget_callback("conformance") is True
            assert await manager.forget_callback("conformance") is False
        else:
            with pytest.raises(NotSupported):
                await manager.register_callback("s", print, name="conformance")
            for refused in (
                manager.forget_callback("conformance"),
                manager.get_events(),
                manager.retry_event("conformance", "e"),
                manager.discard_event("conformance", "e"),
            ):
                with pytest.raises(NotSupported):
                    await refused

    async def test_durable_callback_hears_everything_in_order(self, manager: StateManager) -> None:
        if "durable_callbacks" not in self.capabilities:
            return
        heard: dict[str, list[StateChange]] = {"user_1": [], "user_2": []}
        done = asyncio.Event()

        async def listen(change: StateChange) -> None:
            heard[change["state_id"]].append(change)
            if sum(map(len, heard.values())) == 10:
                done.set()

        assert await manager.register_callback("user_*", listen, name="conformance") is True
        await self.register(manager, "other")
        for state_id in heard:
            await self.register(manager, state_id)
        for n in range(4):
            await asyncio.gather(*(manager.update_state(state_id, {"n": n}) for state_id in heard))
        async with asyncio.timeout(30):
            await done.wait()
        for state_id, changes in heard.items():
            assert changes == (await manager.get_state_history(state_id))[::-1]

    async def test_durable_callback_that_left_is_kept_what_happens(self, manager: StateManager) -> None:
        if "durable_callbacks" not in self.capabilities:
            return
        heard: asyncio.Queue[int] = asyncio.Queue()

        async def first(change: StateChange) -> None:
            heard.put_nowait(change["version"])

        async def second(change: StateChange) -> None:
            heard.put_nowait(-change["version"])

        await manager.register_callback("type:session", first, name="conformance")
        await self.register(manager)
        async with asyncio.timeout(30):
            assert await heard.get() == 1
        assert await manager.unregister_callback("type:session", first) is True
        assert await manager.unregister_callback("type:session", first) is False
        await manager.update_state("s", {"a": 1})
        await manager.register_callback("type:session", second, name="conformance")
        async with asyncio.timeout(30):
            assert await heard.get() == -2

    @pytest.mark.parametrize("name", ["", "x" * 101, "a\0b", 3])
    async def test_name_that_cannot_be_is_refused(self, manager: StateManager, name: Any) -> None:
        if "durable_callbacks" in self.capabilities:
            with pytest.raises(InvalidInput):
                await manager.register_callback("s", print, name=name)

    async def test_watch_is_there_where_declared(self, manager: StateManager) -> None:
        await self.register(manager)
        if "watch" not in self.capabilities:
            with pytest.raises(NotSupported):
                manager.watch("s", from_version=0)
            return
        async with asyncio.timeout(10):
            async for change in manager.watch("s", from_version=0):
                assert change["version"] == 1
                break

    async def test_watcher_goes_on_from_the_version_it_knows(self, manager: StateManager) -> None:
        if "watch" not in self.capabilities:
            return
        await self.register(manager)
        for n in range(3):
            await manager.update_state("s", {"n": n})
        watch = manager.watch("s", from_version=2)
        async with asyncio.timeout(30):
            assert [await anext(watch), await anext(watch)] == (await manager.get_state_history("s", 2))[::-1]
            coming = asyncio.ensure_future(anext(watch))
            await manager.delete_state("s")
            assert (await coming)["transition"] == "delete"
            coming = asyncio.ensure_future(anext(watch))
            await self.register(manager)
            assert (await coming)["version"] == 6

    async def test_state_can_be_watched_before_it_is_there(self, manager: StateManager) -> None:
        if "watch" not in self.capabilities:
            return
        coming = asyncio.ensure_future(anext(manager.watch("s")))
        async with asyncio.timeout(30):
            while not coming.done():  # from which version it watches is up to it
                await manager.register_state("s", "session", {}) or await manager.update_state("s", {})
        assert (await coming)["state_id"] == "s"


__all__ = ["StateConformance"]
