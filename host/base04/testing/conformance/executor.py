"""What every provider of the role ``executor`` does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import ClassVar

import pytest

from base04.testing.conformance.declared import DeclaredCapabilities
from base04_hookspecs.errors import ManagerUnavailable
from base04_hookspecs.executor import ExecutionJob, ExecutorManager


def job(identity: str, priority: int = 0) -> ExecutionJob:
    """Return a job."""
    return {"id": identity, "action": "pack.run", "priority": priority}


class Performer:
    """What the host would do with an execution: it notes what was begun and ended, and waits where it is told to."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.cancelled: list[str] = []
        self.blocked: set[str] = set()
        self.errors: dict[str, list[BaseException]] = {}
        self.go_on = asyncio.Event()
        self._changed = asyncio.Condition()

    async def __call__(self, execution_id: str) -> None:
        self.begun.append(execution_id)
        await self._tell()
        try:
            if self.errors.get(execution_id):
                raise self.errors[execution_id].pop(0)
            if execution_id in self.blocked:
                await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.append(execution_id)
            await self._tell()
            raise
        self.ended.append(execution_id)
        await self._tell()

    async def until_begun(self, *identities: str) -> None:
        """Wait until executions have been begun, each as often as it is named."""
        await self._until(self.begun, identities)

    async def until_ended(self, *identities: str) -> None:
        """Wait until executions have ended."""
        await self._until(self.ended, identities)

    async def until_cancelled(self, *identities: str) -> None:
        """Wait until executions have been cancelled."""
        await self._until(self.cancelled, identities)

    async def _until(self, journal: list[str], identities: tuple[str, ...]) -> None:
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: not Counter(identities) - Counter(journal))

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


Another = Callable[[], AbstractAsyncContextManager[ExecutorManager]]
"""Starts one more executor as another process would: like the one under test, on the same servers and files."""


class ExecutorConformance(DeclaredCapabilities):
    """Subclass it, give it the fixtures ``executor`` and ``another``, and say what the provider can.

    ``executor`` is started, not bound, and performs one execution at once; ``another`` starts its like.
    """

    known_capabilities: ClassVar[frozenset[str]] = frozenset({"priorities", "durable"})

    @pytest.fixture
    def performer(self) -> Performer:
        """Return what performs executions in these tests; it lets go of all of them at the end."""
        return Performer()

    async def test_job_is_performed(self, executor: ExecutorManager, performer: Performer) -> None:
        executor.bind(performer)
        await executor.submit(job("one"))
        await performer.until_ended("one")

    async def test_what_was_submitted_before_it_was_bound_is_performed(
        self, executor: ExecutorManager, performer: Performer
    ) -> None:
        await executor.submit(job("early"))
        executor.bind(performer)
        await performer.until_ended("early")

    async def test_job_that_waits_or_runs_is_not_taken_twice(
        self, executor: ExecutorManager, performer: Performer
    ) -> None:
        performer.blocked = {"runs"}
        executor.bind(performer)
        await executor.submit(job("runs"))
        await performer.until_begun("runs")
        for identity in ("runs", "waits", "waits"):
            await executor.submit(job(identity))
        performer.go_on.set()
        await executor.submit(job("last", -1))
        await performer.until_ended("runs", "waits", "last")
        assert Counter(performer.begun) == {"runs": 1, "waits": 1, "last": 1}

    async def test_no_more_run_at_once_than_there_is_room_for(
        self, executor: ExecutorManager, performer: Performer
    ) -> None:
        performer.blocked = {"one"}
        executor.bind(performer)
        await executor.submit(job("one"))
        await performer.until_begun("one")
        await executor.submit(job("two"))
        status = await executor.get_queue_status()
        assert (status["running"], status["waiting"], status["size"]) == (1, 1, 1)
        assert performer.begun == ["one"]
        performer.go_on.set()
        await performer.until_ended("one", "two")

    async def test_highest_priority_is_next_and_equal_ones_keep_their_order(
        self, executor: ExecutorManager, performer: Performer
    ) -> None:
        performer.blocked = {"first"}
        executor.bind(performer)
        await executor.submit(job("first"))
        await performer.until_begun("first")
        for identity, priority in (("low", -1), ("a", 0), ("b", 0), ("high", 7)):
            await executor.submit(job(identity, priority))
        performer.go_on.set()
        await performer.until_ended("first", "high", "a", "b", "low")
        by_priority = performer.begun == ["first", "high", "a", "b", "low"]
        assert by_priority is ("priorities" in self.capabilities)
        assert performer.begun.index("a") < performer.begun.index("b")

    async def test_what_was_submitted_outlives_the_process_if_declared(
        self, another: Another, performer: Performer
    ) -> None:
        async with another() as first:
            await first.submit(job("kept"))
        async with another() as later:
            later.bind(performer)
            await later.submit(job("new"))
            await performer.until_ended("new", *(["kept"] if "durable" in self.capabilities else []))
        assert ("kept" in performer.begun) is ("durable" in self.capabilities)

    async def test_job_that_waits_is_dropped_when_it_is_cancelled(
        self, executor: ExecutorManager, performer: Performer
    ) -> None:
        performer.blocked = {"first"}
        executor.bind(performer)
        await executor.submit(job("first"))
        await performer.until_begun("first")
        await executor.submit(job("dropped"))
        await executor.submit(job("last"))
        assert await executor.cancel("dropped") is True
        assert await executor.cancel("dropped") is False
        performer.go_on.set()
        await performer.until_ended("first", "last")
        assert performer.begun == ["first", "last"]

    async def test_what_performs_a_job_is_cancelled_with_it_and_the_next_goes_on(
        self, executor: ExecutorManager, performer: Performer
    ) -> None:
        performer.blocked = {"first"}
        executor.bind(performer)
        await executor.submit(job("first"))
        await performer.until_begun("first")
        assert await executor.cancel("first") is True
        await performer.until_cancelled("first")
        await executor.submit(job("next"))
        await performer.until_ended("next")

    async def test_unknown_job_cannot_be_cancelled(self, executor: ExecutorManager, performer: Performer) -> None:
        executor.bind(performer)
        assert await executor.cancel("nobody") is False

    @pytest.mark.parametrize("error", [ValueError("a bug"), SystemExit(3), KeyboardInterrupt()])
    async def test_nothing_that_performing_raises_stops_the_others(
        self, executor: ExecutorManager, performer: Performer, error: BaseException
    ) -> None:
        performer.errors = {"bad": [error]}
        executor.bind(performer)
        await executor.submit(job("bad"))
        await executor.submit(job("good"))
        await performer.until_ended("good")
        assert performer.begun.count("bad") == 1

    async def test_job_is_delivered_again_where_it_could_not_be_looked_up(
        self, executor: ExecutorManager, performer: Performer
    ) -> None:
        performer.errors = {"one": [ManagerUnavailable("the database is away")]}
        executor.bind(performer)
        await executor.submit(job("one"))
        await performer.until_ended("one")
        assert performer.begun == ["one", "one"]

    async def test_draining_begins_nothing_more_and_lets_go_on_what_runs(
        self, executor: ExecutorManager, performer: Performer
    ) -> None:
        performer.blocked = {"first"}
        executor.bind(performer)
        await executor.submit(job("first"))
        await performer.until_begun("first")
        await executor.submit(job("waits"))
        await executor.drain()
        with pytest.raises(ManagerUnavailable):
            await executor.submit(job("late"))
        performer.go_on.set()
        await performer.until_ended("first")
        assert performer.begun == ["first"]

    async def test_stop_cancels_what_runs_and_waits_for_its_end(
        self, executor: ExecutorManager, performer: Performer
    ) -> None:
        performer.blocked = {"first"}
        executor.bind(performer)
        await executor.submit(job("first"))
        await performer.until_begun("first")
        await executor.stop()
        assert performer.cancelled == ["first"]
        assert (await executor.get_queue_status())["running"] == 0
        with pytest.raises(ManagerUnavailable):
            await executor.submit(job("late"))
        await executor.stop()
