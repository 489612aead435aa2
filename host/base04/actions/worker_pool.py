"""Threads for handlers that are not async."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final, TypeVar

import structlog

from base04_hookspecs.errors import Base04Error, ManagerUnavailable

T = TypeVar("T")

THREADS: Final = 32
WAITING: Final = 256
IDLE_S: Final = 30.0


Release = Callable[[], None]
Hold = Callable[[], Release]
"""Keeps what a call uses; what it returns lets go of it. Both are called on the loop."""


class CallTimeout(Exception):
    """A call took longer than it may."""


class PoolFull(ManagerUnavailable):
    """No thread is free for a call; it has not begun."""


class CallAbandoned(Base04Error):
    """Nobody waits any more for the call that this thread goes on with: it may not use managers."""


def refuse_abandoned(name: str) -> None:
    """Raise ``CallAbandoned`` in a thread whose caller has given up; ``name`` says what it wanted to call."""
    job = _current.get()
    if job is not None and job.state == "abandoned":
        raise CallAbandoned(
            f"{name} is not called: the call that this thread goes on with took too long, and its caller has been "
            "answered. Give what the handler waits for a timeout of its own."
        )


class WorkerPool:
    """Runs functions in threads, with the caller's context, each for a limited time.

    A thread cannot be cancelled: one whose caller has given up goes on, keeps its place in the pool until it has
    finished, is counted in ``abandoned``, and is stopped by ``CallAbandoned`` at its next call of a manager. Threads
    are started when they are needed and end when they are idle; none of them keeps the process alive.
    """

    def __init__(self, threads: int = THREADS, waiting: int = WAITING, idle_s: float = IDLE_S) -> None:
        self._size = threads
        self._most_waiting = waiting
        self._idle_s = idle_s
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._unfinished = 0
        self._abandoned = 0
        self._closed = False

    @property
    def abandoned(self) -> int:
        """How many threads go on with a call that nobody waits for any more."""
        return self._abandoned

    @property
    def running(self) -> int:
        """How many calls threads work at, those that nobody waits for any more included."""
        return min(self._unfinished, self._size)

    @property
    def waiting(self) -> int:
        """How many calls wait for a thread."""
        return max(0, self._unfinished - self._size)

    async def run(self, function: Callable[[], T], timeout: float | None = None, *, hold: Hold | None = None) -> T:
        """Run a function in a thread and return what it returns; ``timeout`` is in seconds, time in the queue included.

        ``hold`` is called when the thread is abandoned, and what it returns when that thread has finished.

        Raises:
            PoolFull: all threads are busy and too many calls wait already, or the pool is closed.
            CallTimeout: it took longer.
            RuntimeError: it raised ``CancelledError`` or ``GeneratorExit``, which mean something else here.
            BaseException: what it raises.
        """
        loop = asyncio.get_running_loop()
        job = _Job(function, loop, hold)
        self._submit(job)
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                result, error = await job.future
        except TimeoutError as late:
            raise CallTimeout(f"The call took longer than {timeout} s.") from late
        finally:
            self._abandon(job)
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            raise RuntimeError(  # noqa: TRY004 - not about a type
                f"The call raised {type(error).__name__}, though nobody had cancelled it."
            ) from error
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]  # what the function returned

    def close(self) -> None:
        """Let idle threads end, and busy ones when they have finished; nothing new is accepted. Does not wait."""
        with self._lock:
            self._closed = True
            threads = self._threads
        for _ in range(threads):
            self._queue.put(None)

    def _submit(self, job: _Job) -> None:
        with self._lock:
            if self._closed:
                raise PoolFull("The host is stopping: no handler is started any more.")
            if self._abandoned >= self._size or self._unfinished >= self._size + self._most_waiting:
                raise PoolFull(
                    f"All {self._size} threads for handlers that are not async are busy, {self._abandoned} of them "
                    "with calls that took too long: try again later."
                )
            self._unfinished += 1
            self._queue.put(job)
            if self._unfinished > self._threads and self._threads < self._size:
                self._threads += 1
                threading.Thread(target=self._work, name="base04-handler", daemon=True).start()

    def _abandon(self, job: _Job) -> None:
        with self._lock:
            if job.state == "running":
                self._abandoned += 1
                job.hold()
            if job.state != "finished":
                job.state = "abandoned" if job.state == "running" else "dropped"

    def _work(self) -> None:
        while True:
            try:
                job = self._queue.get(timeout=self._idle_s)
            except queue.Empty:
                job = None
            if job is None:
                with self._lock:
                    if self._queue.empty():
                        self._threads -= 1
                        return
                continue
            self._perform(job)

    def _perform(self, job: _Job) -> None:
        with self._lock:
            wanted = job.state == "queued"
            if wanted:
                job.state = "running"
        outcome = job.call() if wanted else None
        with self._lock:
            self._unfinished -= 1
            abandoned = job.state == "abandoned"
            if abandoned:
                self._abandoned -= 1
            job.state = "finished"
        if abandoned:
            job.let_go()
            job.log("abandoned handler has finished", abandoned=self._abandoned)
        elif outcome is not None:
            job.deliver(outcome)


class _Job:
    """One call. ``state`` is changed under the pool's lock only."""

    __slots__ = ("_context", "_function", "_hold", "_loop", "_release", "future", "state")

    def __init__(self, function: Callable[[], Any], loop: asyncio.AbstractEventLoop, hold: Hold | None) -> None:
        self._function = function
        self._loop = loop
        self._context: Context = copy_context()
        self._context.run(_current.set, self)
        self._hold = hold
        self._release: Release | None = None
        self.future: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
        self.state = "queued"

    def hold(self) -> None:
        """Keep what the call uses, now that nobody waits for it."""
        if self._hold is not None:
            self._release = self._hold()

    def let_go(self) -> None:
        """Let go of what was kept, unless the loop is gone."""
        if self._release is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._release)

    def call(self) -> tuple[Any, BaseException | None]:
        """Return what the function returned, or what it raised, ``SystemExit`` included."""
        try:
            return self._context.run(self._function), None
        except BaseException as error:  # noqa: BLE001 - raised again where the call was made
            return None, error

    def log(self, event: str, **values: Any) -> None:
        """Log something of the call, as part of the request that made it."""
        self._context.run(structlog.get_logger().info, event, **values)

    def deliver(self, outcome: tuple[Any, BaseException | None]) -> None:
        """Hand the outcome to whoever waits, unless the loop is gone."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._settle, outcome)

    def _settle(self, outcome: tuple[Any, BaseException | None]) -> None:
        if not self.future.done():
            self.future.set_result(outcome)


_current: Final[ContextVar[_Job | None]] = ContextVar("base04_worker_call", default=None)
