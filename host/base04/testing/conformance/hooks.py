"""What every provider of the role ``hooks`` does."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from typing import Any

import pytest

from base04.testing.conformance.declared import DeclaredCapabilities
from base04_hookspecs.errors import InvalidInput
from base04_hookspecs.hooks import HooksManager

_setting: ContextVar[str] = ContextVar("conformance_hooks_setting", default="unset")


class HooksConformance(DeclaredCapabilities):
    """Subclass it and give it a fixture ``manager`` (started, and without hooks)."""

    async def test_trigger_without_listeners_returns_nothing(self, manager: HooksManager) -> None:
        assert await manager.trigger_hook("nobody.listens", name="a", self="b") == []

    async def test_data_arrives_and_results_return(self, manager: HooksManager) -> None:
        async def double(*, number: int) -> int:
            return number * 2

        def square(*, number: int) -> int:
            return number**2

        assert await manager.register_callback("count", double) is True
        assert await manager.register_callback("count", square) is True
        assert await manager.trigger_hook("count", number=5) == [10, 25]

    async def test_higher_priorities_go_first_and_equals_in_order(self, manager: HooksManager) -> None:
        def named(name: str) -> Any:
            async def callback() -> str:
                return name

            return callback

        for name, priority in (("low", -5), ("first", 0), ("second", 0), ("high", 10)):
            await manager.register_callback("ordered", named(name), priority)
        assert await manager.trigger_hook("ordered") == ["high", "first", "second", "low"]

    async def test_callback_listens_once(self, manager: HooksManager) -> None:
        async def callback() -> int:
            return 1

        assert await manager.register_callback("once", callback) is True
        assert await manager.register_callback("once", callback, 5) is False
        assert await manager.trigger_hook("once") == [1]
        assert await manager.register_callback("another", callback) is True

    async def test_unregistered_callback_is_not_called(self, manager: HooksManager) -> None:
        async def callback() -> int:
            return 1

        await manager.register_callback("left", callback)
        assert await manager.unregister_callback("left", callback) is True
        assert await manager.unregister_callback("left", callback) is False
        assert await manager.unregister_callback("never heard of", callback) is False
        assert await manager.trigger_hook("left") == []

    async def test_failing_callback_is_isolated_and_counted(self, manager: HooksManager) -> None:
        async def failing() -> None:
            raise ValueError("on purpose")

        def also_failing() -> None:
            raise KeyError("too")

        def stopping() -> None:
            raise StopIteration

        async def fine() -> str:
            return "fine"

        for callback in (failing, also_failing, stopping, fine):
            await manager.register_callback("mixed", callback)
        async with asyncio.timeout(30):
            assert await manager.trigger_hook("mixed") == ["fine"]
        (info,) = await manager.list_hooks()
        assert info["triggered"] == 1
        assert info["failures"] == 3
        assert info["last_error"]

    async def test_wrong_signature_is_a_failure_of_the_callback(self, manager: HooksManager) -> None:
        async def takes_nothing() -> None:
            return None

        await manager.register_callback("mismatch", takes_nothing)
        assert await manager.trigger_hook("mismatch", surprise=1) == []
        assert (await manager.list_hooks())[0]["failures"] == 1

    async def test_synchronous_callback_runs_in_a_thread_with_the_context(self, manager: HooksManager) -> None:
        def callback() -> tuple[str, int]:
            return _setting.get(), threading.get_ident()

        await manager.register_callback("context", callback)
        token = _setting.set("seen")
        try:
            ((setting, thread),) = await manager.trigger_hook("context")
        finally:
            _setting.reset(token)
        assert setting == "seen"
        assert thread != threading.get_ident()

    async def test_cancellation_is_not_swallowed(self, manager: HooksManager) -> None:
        entered = asyncio.Event()
        after: list[int] = []

        async def hanging() -> None:
            entered.set()
            await asyncio.Event().wait()

        async def next_one() -> None:
            after.append(1)

        await manager.register_callback("hang", hanging)
        await manager.register_callback("hang", next_one)
        task = asyncio.create_task(manager.trigger_hook("hang"))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert after == []

    async def test_listener_that_comes_or_goes_during_a_run(self, manager: HooksManager) -> None:
        async def late() -> str:
            return "late"

        async def leaving() -> str:
            return "leaving"

        async def changing() -> str:
            await manager.register_callback("changing", late)
            await manager.unregister_callback("changing", leaving)
            return "changed"

        await manager.register_callback("changing", changing, 1)
        await manager.register_callback("changing", leaving)
        assert await manager.trigger_hook("changing") == ["changed"]
        assert await manager.trigger_hook("changing") == ["changed", "late"]

    async def test_list_has_all_that_were_declared_heard_or_triggered(self, manager: HooksManager) -> None:
        async def callback() -> None:
            return None

        assert await manager.register_hook("b.declared", "what it is for") is True
        assert await manager.register_hook("b.declared", "something else") is False
        await manager.register_callback("c.heard", callback)
        await manager.trigger_hook("a.triggered")
        infos = await manager.list_hooks()
        assert [info["name"] for info in infos] == ["a.triggered", "b.declared", "c.heard"]
        assert infos[0]["triggered"] == 1
        assert infos[1]["description"] == "what it is for"
        assert infos[2]["callbacks"][0].endswith("callback")

    async def test_what_cannot_be_called_is_refused(self, manager: HooksManager) -> None:
        with pytest.raises(InvalidInput):
            await manager.register_callback("bad", "not a function")  # type: ignore[arg-type]  # on purpose
        with pytest.raises(InvalidInput):
            await manager.register_hook("")

    async def test_health_is_complete(self, manager: HooksManager) -> None:
        report = await manager.health_check()
        assert report["status"] == "healthy"
        assert {"connections", "errors", "response_time"} <= report["metrics"].keys()
