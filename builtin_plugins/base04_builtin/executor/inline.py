"""The provider ``inline``: executions in this process."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
from typing import Final

import structlog

from base04_builtin.executor.settings import InlineExecutorSettings
from base04_hookspecs.errors import ManagerUnavailable
from base04_hookspecs.executor import ExecutionJob, ExecutorManager, Perform, QueueStatus
from base04_hookspecs.health import HealthReport, health_report

_LONGEST_WAIT_S: Final = 30.0

_log = structlog.get_logger()


class InlineExecutorManager(ExecutorManager):
    """Performs executions as tasks of this process's loop; those that wait are in a heap, and are lost with it."""

    def __init__(self, settings: InlineExecutorSettings) -> None:
        self._settings = settings
        self._perform: Perform | None = None
        self._waiting: dict[str, tuple[int, int, str]] = {}
        self._heap: list[tuple[int, int, str]] = []
        self._order = itertools.count()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._failures = 0
        self._draining = False

    async def stop(self) -> None:
        """Forget what waits, cancel what runs, and wait for its end."""
        await self.drain()
        self._waiting.clear()
        self._heap.clear()
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def health_check(self) -> HealthReport:
        """Report how much there is to do; degraded where no more can be taken."""
        full = self._full
        return health_report(
            "degraded" if full else "healthy",
            "No more executions are taken: too many wait." if full else "",
            errors=self._failures,
            running=len(self._running),
            waiting=len(self._waiting),
        )

    def bind(self, perform: Perform) -> None:
        self._perform = perform
        self._begin()

    async def submit(self, job: ExecutionJob) -> None:
        if self._draining:
            raise ManagerUnavailable("The executor is stopping: no execution is taken any more.")
        identity = job["id"]
        if identity in self._waiting or identity in self._running:
            return
        if self._full:
            raise ManagerUnavailable(
                f"{len(self._running)} executions run and {len(self._waiting)} wait, which is all that the executor "
                "takes: try again later.",
                retry_after=5.0,
            )
        place = (-job["priority"], next(self._order), identity)
        self._waiting[identity] = place
        heapq.heappush(self._heap, place)
        self._begin()

    async def cancel(self, execution_id: str) -> bool:
        if self._waiting.pop(execution_id, None) is not None:  # it leaves the heap when its turn would come
            return True
        task = self._running.get(execution_id)
        return task is not None and task.cancel()

    async def get_queue_status(self) -> QueueStatus:
        return {"running": len(self._running), "waiting": len(self._waiting), "size": self._settings.size}

    async def drain(self) -> None:
        self._draining = True

    @property
    def _full(self) -> bool:
        return len(self._running) >= self._settings.size and len(self._waiting) >= self._settings.waiting

    def _begin(self) -> None:
        """Begin as many as there is room for."""
        perform = self._perform
        while perform is not None and self._heap and not self._draining and len(self._running) < self._settings.size:
            place = heapq.heappop(self._heap)
            identity = place[2]
            if self._waiting.get(identity) != place:  # it was cancelled
                continue
            del self._waiting[identity]
            # An execution belongs to no request: it begins in a context of its own.
            task = asyncio.create_task(
                self._work(perform, identity), name=f"execution {identity}", context=contextvars.Context()
            )
            self._running[identity] = task
            task.add_done_callback(lambda _, identity=identity: self._ended(identity))  # type: ignore[misc]  # default

    def _ended(self, identity: str) -> None:
        self._running.pop(identity, None)
        self._begin()

    async def _work(self, perform: Perform, identity: str) -> None:
        """Perform an execution; again, later, where it could not be looked up. Nothing that it raises ends the loop."""
        wait_s = 1.0
        while True:
            try:
                await perform(identity)
            except ManagerUnavailable as error:
                _log.warning("an execution cannot be begun yet", execution=identity, error=str(error))
            except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - the others go on; it is logged
                self._failures += 1
                _log.error("an execution failed", execution=identity, exc_info=error)
                return
            else:
                return
            await asyncio.sleep(min(wait_s, _LONGEST_WAIT_S))
            wait_s *= 2
