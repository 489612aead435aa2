"""Requests on their way through a lane, and what the lane asks of a connection."""

from __future__ import annotations

import asyncio
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


def settle(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> None:
    """Hand outcomes to the callers' loops, waking each loop once."""
    settled = list(zip(jobs, outcomes, strict=True))
    for loop in {id(job.loop): job.loop for job in jobs}.values():
        try:
            loop.call_soon_threadsafe(_settle, [pair for pair in settled if pair[0].loop is loop])
        except RuntimeError:  # the loop is closed: nobody waits any more
            continue


def _settle(settled: Iterable[tuple[Job, Outcome]]) -> None:
    for job, (result, error) in settled:
        if job.future.done():
            continue
        if error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(result)
