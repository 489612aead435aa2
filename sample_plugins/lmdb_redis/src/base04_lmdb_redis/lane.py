"""The thread that writes."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from base04_lmdb_redis.view import View

_MOST_AT_ONCE: Final = 256

Work = Callable[[View], Any]


class Job:
    """Something to be done in a transaction. ``afterwards`` gets the result once that is committed."""

    __slots__ = ("_future", "_loop", "afterwards", "begun", "given_up", "work")

    def __init__(self, work: Work, afterwards: Callable[[Any], Any] | None) -> None:
        self.work = work
        self.afterwards = afterwards
        self.begun = self.given_up = False
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[Any] = self._loop.create_future()

    @property
    def future(self) -> asyncio.Future[Any]:
        """What the caller waits for."""
        return self._future

    def end(self, result: Any, error: BaseException | None) -> None:
        """Tell the caller, from whichever thread."""
        try:
            self._loop.call_soon_threadsafe(self._tell, result, error)
        except RuntimeError:
            return  # its loop is closed: nobody waits

    def _tell(self, result: Any, error: BaseException | None) -> None:
        if self._future.done():
            return
        if error is None:
            self._future.set_result(result)
        else:
            self._future.set_exception(error)


class Lane:
    """One thread, which does what waits in one transaction: many callers share a commit.

    Args:
        commit: does many jobs in one transaction and returns their results, or raises and has done nothing. It is
            given the jobs and ``begin``, which it calls once it holds the lock; those that were given up are left out.
    """

    def __init__(self, commit: Callable[[list[Job], Callable[[list[Job]], list[Job]]], list[Any]]) -> None:
        self._commit = commit
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="lmdb", daemon=True)
        self._thread.start()

    def add(self, work: Work, afterwards: Callable[[Any], Any] | None = None) -> Job:
        """Queue a job of the running loop."""
        job = Job(work, afterwards)
        with self._changed:
            self._waiting.append(job)
            self._changed.notify()
        return job

    def give_up(self, job: Job) -> bool:
        """Keep a job from being done; False where it has begun."""
        with self._changed:
            job.given_up = not job.begun
            return job.given_up

    def close(self) -> None:
        """Do what waits, and end."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while jobs := self._take():
            try:
                results = self._commit(jobs, self._begin)
            except Exception as error:  # noqa: BLE001 - whatever it is belongs to whoever waits for it
                self._retry(jobs, error)
            else:
                self._finish(jobs, results)

    def _take(self) -> list[Job]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ending)
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_AT_ONCE))]

    def _begin(self, jobs: list[Job]) -> list[Job]:
        with self._changed:
            for job in jobs:
                job.begun = not job.given_up
            return [job for job in jobs if job.begun]

    def _retry(self, jobs: list[Job], error: Exception) -> None:
        """Do each on its own, where together they failed: one that fails must not take others with it."""
        if len(jobs) == 1:
            jobs[0].end(None, error)
            return
        for job in jobs:
            try:
                results = self._commit([job], self._begin)
            except Exception as own_error:  # noqa: BLE001 - as above
                job.end(None, own_error)
            else:
                self._finish([job], results)

    def _finish(self, jobs: list[Job], results: list[Any]) -> None:
        for job, result in zip((job for job in jobs if job.begun), results, strict=True):
            try:
                job.end(result if job.afterwards is None else job.afterwards(result), None)
            except Exception as error:  # noqa: BLE001 - it is committed, and must not be done a second time
                job.end(None, error)
