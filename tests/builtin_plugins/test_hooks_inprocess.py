"""The provider ``inprocess`` of the role ``hooks``."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from base04.testing.conformance.hooks import HooksConformance
from base04_builtin.hooks import hooks_providers
from base04_builtin.hooks.inprocess import InProcessHooksManager


@pytest.fixture
async def manager() -> AsyncIterator[InProcessHooksManager]:
    started = InProcessHooksManager()
    await started.start()
    yield started
    await started.stop()


class TestInProcessHooks(HooksConformance):
    capabilities = next(iter(hooks_providers())).capabilities


async def test_failure_is_logged_with_its_traceback(manager: InProcessHooksManager) -> None:
    def failing(**data: object) -> None:
        raise ValueError("on purpose")

    await manager.register_callback("event", failing)
    with capture_logs() as logs:
        await manager.trigger_hook("event", secret="canary-1")
    (entry,) = logs
    assert (entry["event"], entry["hook"], entry["exc_info"]) == ("hook callback failed", "event", True)
    assert "failing" in entry["callback"]
    assert "canary-1" not in str(entry)


async def test_partials_and_callable_objects_are_called(manager: InProcessHooksManager) -> None:
    class Callback:
        async def __call__(self, number: int) -> int:
            return number + 1

    async def add(amount: int, number: int) -> int:
        return number + amount

    await manager.register_callback("event", Callback())
    await manager.register_callback("event", functools.partial(add, 10))
    await manager.register_callback("event", lambda number: add(100, number))
    assert await manager.trigger_hook("event", number=1) == [2, 11, 101]
    (info,) = await manager.list_hooks()
    assert info["callbacks"][0].endswith("Callback")
    assert info["callbacks"][1].endswith("add")


async def test_names_from_outside_do_not_pile_up(manager: InProcessHooksManager) -> None:
    for number in range(10_500):
        await manager.trigger_hook(f"name-{number}")
    assert len(await manager.list_hooks()) == 10_000
    await manager.register_callback("one more", lambda: 1)
    assert await manager.trigger_hook("one more") == [1]


async def test_stop_forgets_listeners_even_of_a_run_in_progress(manager: InProcessHooksManager) -> None:
    entered, go = asyncio.Event(), asyncio.Event()

    async def first() -> str:
        entered.set()
        await go.wait()
        return "first"

    async def second() -> str:
        return "second"

    await manager.register_callback("event", first)
    await manager.register_callback("event", second)
    running = asyncio.create_task(manager.trigger_hook("event"))
    await entered.wait()
    await manager.stop()
    go.set()
    assert await running == ["first"]
    assert await manager.trigger_hook("event") == []
