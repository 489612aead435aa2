"""Requests on their way through a lane, and what the lane asks of a connection."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from base04_builtin.database.requests import Request, Transaction


class Outcome(NamedTuple):
    """What became of a request: a result, or an error."""

    result: Any
    error: BaseException | None = None


class Session(Protocol):
    """What a thread of a lane owns: one connection."""

    broken: bool

    def perform(self, request: Request, abandoned: Callable[[], bool]) -> Any:
        """Carry out a request; ``abandoned`` tells whether anybody still waits for the result."""

    def perform_together(self, transactions: Sequence[Transaction]) -> list[Outcome] | None:
        """Carry out transactions with one commit; None where each has to be carried out alone, and nothing was done."""

    def close(self) -> None:
        """Close the connection."""


class Job:
    """A request and who waits for it."""

    __slots__ = ("begun", "dropped", "expires", "future", "loop", "request")

    def __init__(self, request: Request, loop: asyncio.AbstractEventLoop) -> None:
        self.request = request
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.begun = False
        self.dropped = False
        self.expires = 0.0

    def abandoned(self) -> bool:
        """Tell whether the caller has gone."""
        return self.future.cancelled()


class Arrivals:
    """Jobs of one loop in the order in which they came, given up after the same time: one timer for all of them.

    Args:
        loop: the loop of the callers.
        wait_s: how long a job may wait.
        expire: gives a job up.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, wait_s: float, expire: Callable[[Job], None]) -> None:
        self.loop = loop
        self._wait_s = wait_s
        self._expire = expire
        self._jobs: deque[Job] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, job: Job) -> None:
        """Watch a job."""
        job.expires = self.loop.time() + self._wait_s
        self._jobs.append(job)
        if self._timer is None:
            self._timer = self.loop.call_at(job.expires, self._sweep)

    def prune(self) -> None:
        """Forget jobs that wait no more."""
        while self._jobs and (self._jobs[0].begun or self._jobs[0].dropped):
            self._jobs.popleft()

    def _sweep(self) -> None:
        self.prune()
        now = self.loop.time()
        while self._jobs and self._jobs[0].expires <= now:
            self._expire(self._jobs.popleft())
            self.prune()
        self._timer = self.loop.call_at(self._jobs[0].expires, self._sweep) if self._jobs else None


def settle(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> None:
    """Hand outcomes to the callers' loops, waking each loop once."""
    settled = list(zip(jobs, outcomes, strict=True))
    if len(settled) == 1:
        _wake(jobs[0].loop, settled)
        return
    for loop in {id(job.loop): job.loop for job in jobs}.values():
        _wake(loop, [pair for pair in settled if pair[0].loop is loop])


def _wake(loop: asyncio.AbstractEventLoop, settled: list[tuple[Job, Outcome]]) -> None:
    try:
        loop.call_soon_threadsafe(_settle, settled)
    except RuntimeError:  # the loop is closed: nobody waits any more
        return


def _settle(settled: Iterable[tuple[Job, Outcome]]) -> None:
    for job, (result, error) in settled:
        if job.future.done():
            continue
        if error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(result)
