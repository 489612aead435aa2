"""A lane: worker threads that carry out requests, and the bounded wait for one of them.

Transactions that wait at the same moment share a commit, on a lane that is made so. A caller that is cancelled while it
waits has its request dropped if it has not begun; one that has begun is finished and its result discarded.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Final

from base04_builtin.database.requests import Request, Transaction
from base04_builtin.database.sqlite.job import Arrivals, Job, Outcome, Session, settle
from base04_hookspecs.errors import ManagerUnavailable, OutcomeUnknown

_BATCH: Final = 128


class Lane:
    """At most ``size`` threads with a session each, started when they are needed.

    Args:
        name: for thread names and messages.
        size: the most threads.
        open_session: opens a session; called in the thread that will use it.
        wait_timeout_s: how long a request may wait for a thread.
        together: whether transactions that wait at the same moment share a commit; for a lane of one thread.
    """

    def __init__(
        self,
        name: str,
        size: int,
        open_session: Callable[[], Session],
        wait_timeout_s: float,
        *,
        together: bool = False,
    ) -> None:
        self.name = name
        self.size = size
        self.waiting = 0
        self.in_use = 0
        self.open = 0
        self.unavailable = 0
        self.failing: str | None = None
        self._open_session = open_session
        self._wait_timeout_s = wait_timeout_s
        self._together = together
        self._arrivals: Arrivals | None = None
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
        arrivals = self._arrivals
        if arrivals is None or arrivals.loop is not job.loop:
            arrivals = self._arrivals = Arrivals(job.loop, self._wait_timeout_s, self._expire)
        self._enqueue(job)
        arrivals.add(job)
        try:
            return await job.future
        except asyncio.CancelledError:
            self._drop(job)
            raise
        finally:
            arrivals.prune()

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

    def _begin(self, jobs: Sequence[Job]) -> list[Job]:
        """Return those that nobody has dropped, and take them up."""
        with self._lock:
            begun = [job for job in jobs if not job.dropped]
            for job in begun:
                job.begun = True
            self.waiting -= len(begun)
            if begun:
                self._idle -= 1
                self.in_use += 1
        return begun

    def _end(self, outcomes: Sequence[Outcome]) -> None:
        with self._lock:
            self.in_use -= 1
            self._idle += 1
            for _, failure in outcomes:
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
        carried: Job | None = None
        try:
            while (job := carried or self._jobs.get()) is not None:
                waiting, carried = self._waiting_with(job) if self._together else ([job], None)
                if jobs := self._begin(waiting):
                    session = self._perform(jobs, session)
                del job, waiting, jobs  # the thread must not keep the last results alive while it waits
        finally:
            with self._lock:
                self._idle -= 1
            self._close_session(session)

    def _waiting_with(self, job: Job) -> tuple[list[Job], Job | None]:
        """Return the jobs that can share a commit with one, itself first, and the job that follows them if it came."""
        jobs = [job]
        if self._jobs.empty() or not _may_share(job.request):
            return jobs, None
        while len(jobs) < _BATCH and not self._jobs.empty():  # nobody else takes from the queue
            following = self._jobs.get()
            if following is None:
                self._jobs.put(None)  # the lane is closed: nothing comes after it
                break
            if not _may_share(following.request):
                return jobs, following
            jobs.append(following)
        return jobs, None

    def _perform(self, jobs: Sequence[Job], session: Session | None) -> Session | None:
        outcomes: list[Outcome] | None = None
        if len(jobs) > 1:
            session, outcomes = self._perform_together(jobs, session)
        if outcomes is None:
            outcomes = []
            for job in jobs:
                session, outcome = self._perform_alone(job, session)
                outcomes.append(outcome)
        self._end(outcomes)
        settle(jobs, outcomes)
        return session

    def _perform_together(
        self, jobs: Sequence[Job], session: Session | None
    ) -> tuple[Session | None, list[Outcome] | None]:
        requests = [job.request for job in jobs if isinstance(job.request, Transaction)]
        try:
            session = session or self._opened()
            outcomes = session.perform_together(requests)
        except BaseException as error:  # noqa: BLE001 - the callers get it, whatever it is
            outcomes = [Outcome(None, error) for _ in jobs]
        return self._kept(session), outcomes

    def _perform_alone(self, job: Job, session: Session | None) -> tuple[Session | None, Outcome]:
        try:
            session = session or self._opened()
            outcome = Outcome(session.perform(job.request, job.abandoned))
        except BaseException as error:  # noqa: BLE001 - the caller gets it, whatever it is
            outcome = Outcome(None, error)
        return self._kept(session), outcome

    def _opened(self) -> Session:
        session = self._open_session()
        self._count_open(1)
        return session

    def _kept(self, session: Session | None) -> Session | None:
        """Close a session that is broken."""
        if session is not None and session.broken:
            self._close_session(session)
            return None
        return session


def _may_share(request: Request) -> bool:
    return isinstance(request, Transaction) and not request.own


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join()
