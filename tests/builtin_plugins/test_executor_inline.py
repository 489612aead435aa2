"""The provider ``inline`` of the role ``executor``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

import pytest

from base04.testing.conformance.executor import Another, ExecutorConformance, Performer, job
from base04_builtin.executor import executor_providers
from base04_builtin.executor.inline import InlineExecutorManager
from base04_builtin.executor.settings import InlineExecutorSettings
from base04_hookspecs.errors import ManagerUnavailable
from base04_hookspecs.executor import ExecutorManager

request_of: ContextVar[str] = ContextVar("request_of", default="nobody")


@asynccontextmanager
async def running(size: int = 1, waiting: int = 100) -> AsyncIterator[InlineExecutorManager]:
    manager = InlineExecutorManager(InlineExecutorSettings(size=size, waiting=waiting))
    await manager.start()
    try:
        yield manager
    finally:
        await manager.stop()


class TestConformance(ExecutorConformance):
    capabilities = next(iter(executor_providers())).capabilities

    @pytest.fixture
    async def executor(self) -> AsyncIterator[ExecutorManager]:
        async with running() as manager:
            yield manager

    @pytest.fixture
    def another(self) -> Another:
        return running


async def test_what_is_more_than_may_wait_is_refused_and_health_says_so() -> None:
    async with running(waiting=1) as executor:
        performer = Performer()
        performer.blocked = {"runs"}
        executor.bind(performer)
        await executor.submit(job("runs"))
        await performer.until_begun("runs")
        assert (await executor.health_check())["status"] == "healthy"
        await executor.submit(job("waits"))
        with pytest.raises(ManagerUnavailable, match="1 executions run and 1 wait") as caught:
            await executor.submit(job("more"))
        assert caught.value.retry_after == 5.0
        assert (await executor.health_check())["status"] == "degraded"
        performer.go_on.set()
        await performer.until_ended("runs", "waits")


async def test_several_run_at_once_each_outside_of_the_request_that_submitted_it() -> None:
    seen: list[str] = []
    both = asyncio.Barrier(2)

    async def perform(_: str) -> None:
        seen.append(request_of.get())
        await both.wait()

    async with running(size=2) as executor:
        executor.bind(perform)
        request_of.set("ada")
        await executor.submit(job("one"))
        await executor.submit(job("two"))
        async with asyncio.timeout(30):
            while (await executor.get_queue_status())["running"]:
                await asyncio.sleep(0)
    assert seen == ["nobody", "nobody"]
