"""A lane: worker threads that carry out requests, and the bounded wait for one of them.

A caller that is cancelled while it waits has its request dropped if it has not begun; one that has begun is finished
and its result discarded.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol

from base04_builtin.database.requests import Request
from base04_hookspecs.errors import ManagerUnavailable, OutcomeUnknown


class Session(Protocol):
    """What a thread of a lane owns: one connection."""

    broken: bool

    def perform(self, request: Request, abandoned: Callable[[], bool]) -> Any:
        """Carry out a request; ``abandoned`` tells whether anybody still waits for the result."""

    def close(self) -> None:
        """Close the connection."""


class Job:
    """A request on its way through a lane."""

    __slots__ = ("begun", "dropped", "future", "loop", "request")

    def __init__(self, request: Request, loop: asyncio.AbstractEventLoop) -> None:
        self.request = request
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.begun = False
        self.dropped = False

    def abandoned(self) -> bool:
        """Tell whether the caller has gone."""
        return self.future.cancelled()

    def settle(self, result: Any, error: BaseException | None) -> None:
        """Hand the outcome to the caller's loop, if there still is one."""
        try:
            self.loop.call_soon_threadsafe(self._settle, result, error)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class Lane:
    """At most ``size`` threads with a session each, started when they are needed.

    Args:
        name: for thread names and messages.
        size: the most threads.
        open_session: opens a session; called in the thread that will use it.
        wait_timeout_s: how long a request may wait for a thread.
    """

    def __init__(self, name: str, size: int, open_session: Callable[[], Session], wait_timeout_s: float) -> None:
        self.name = name
        self.size = size
        self.waiting = 0
        self.in_use = 0
        self.open = 0
        self.unavailable = 0
        self.failing: str | None = None
        self._open_session = open_session
        self._wait_timeout_s = wait_timeout_s
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._lock = threading.Lock()
        self._closed = False

    @property
    def idle(self) -> int:
        """How many open sessions do nothing."""
        return self._idle

    async def submit(self, request: Request) -> Any:
        """Carry out a request on the next free thread and return its result.

        Raises:
            ManagerUnavailable: no thread became free in time, or the lane is closed.
        """
        job = Job(request, asyncio.get_running_loop())
        self._enqueue(job)
        timer = job.loop.call_later(self._wait_timeout_s, self._expire, job)
        try:
            return await job.future
        except asyncio.CancelledError:
            self._drop(job)
            raise
        finally:
            timer.cancel()

    async def close(self) -> None:
        """Finish what was submitted, close the sessions and end the threads. Safe to repeat."""
        with self._lock:
            self._closed = True
            threads, self._threads = self._threads, []
            for _ in threads:
                self._jobs.put(None)
        if threads:
            await asyncio.to_thread(_join, threads)

    def _enqueue(self, job: Job) -> None:
        with self._lock:
            if self._closed:
                raise ManagerUnavailable("The database manager is not running: it was stopped or never started.")
            self.waiting += 1
            self._jobs.put(job)
            if self.waiting > self._idle and len(self._threads) < self.size:
                thread = threading.Thread(target=self._run, name=f"base04-{self.name}", daemon=True)
                self._threads.append(thread)
                self._idle += 1
                thread.start()

    def _drop(self, job: Job) -> bool:
        with self._lock:
            if job.begun or job.dropped:
                return False
            job.dropped = True
            self.waiting -= 1
            return True

    def _expire(self, job: Job) -> None:
        if self._drop(job) and not job.future.done():
            job.future.set_exception(
                ManagerUnavailable(
                    f"No {self.name} connection to the database became free within {self._wait_timeout_s} seconds."
                )
            )

    def _begin(self, job: Job) -> bool:
        with self._lock:
            if job.dropped:
                return False
            job.begun = True
            self.waiting -= 1
            self._idle -= 1
            self.in_use += 1
            return True

    def _end(self, failure: BaseException | None) -> None:
        with self._lock:
            self.in_use -= 1
            self._idle += 1
            if isinstance(failure, ManagerUnavailable | OutcomeUnknown):
                self.unavailable += 1
                self.failing = str(failure)
            else:
                self.failing = None

    def _count_open(self, change: int) -> None:
        with self._lock:
            self.open += change

    def _close_session(self, session: Session | None) -> None:
        if session is not None:
            self._count_open(-1)
            session.close()

    def _run(self) -> None:
        session: Session | None = None
        try:
            while (job := self._jobs.get()) is not None:
                if self._begin(job):
                    session = self._perform(job, session)
                del job  # the thread must not keep the last result alive while it waits
        finally:
            with self._lock:
                self._idle -= 1
            self._close_session(session)

    def _perform(self, job: Job, session: Session | None) -> Session | None:
        result: Any = None
        failure: BaseException | None = None
        try:
            if session is None:
                session = self._open_session()
                self._count_open(1)
            result = session.perform(job.request, job.abandoned)
        except BaseException as error:  # noqa: BLE001 - the caller gets it, whatever it is
            failure = error
        if session is not None and session.broken:
            self._close_session(session)
            session = None
        self._end(failure)
        job.settle(result, failure)
        return session


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join()
