"""Awaiting a handler under a timeout that it cannot ignore.

The handler's coroutine is driven in the caller's own task: that costs no task for each call, and ``current_task``,
``asyncio.timeout`` and task groups within it work as everywhere. The timer is set when the coroutine first waits for
something, so that a handler that never does pays nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, Final

import structlog

from base04.actions.worker_pool import CallTimeout

GRACE_S: Final = 1.0
"""How long a handler that was cancelled may take to clean up."""


async def supervise(coroutine: Coroutine[Any, Any, Any], timeout: float | None, *, grace: float = GRACE_S) -> Any:
    """Await a coroutine and return its result. ``timeout`` and ``grace`` are in seconds.

    After ``timeout`` it is cancelled. If it has not ended ``grace`` seconds after it was cancelled, by the timeout or
    from outside, it is closed, and is not waited for any more.

    Raises:
        CallTimeout: it took longer, whatever it did when it was cancelled.
        CancelledError: the caller was cancelled from outside, whatever it did then.
        RuntimeError: it raised ``CancelledError`` or ``GeneratorExit`` though nobody had cancelled it.
        BaseException: what it raises.
    """
    try:
        waited = coroutine.send(None)
    except StopIteration as done:  # it waited for nothing, so nobody can have cancelled it
        return done.value
    except (asyncio.CancelledError, GeneratorExit) as raised:
        raise _not_cancelled(raised) from raised
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    run = _Supervised(coroutine, waited, timeout, grace)
    result: Any = None
    error: BaseException | None = None
    try:
        result = await run
    except BaseException as raised:
        if run.closed:
            raise
        error = raised
    for _ in range(run.cancelled):
        task.uncancel()  # type: ignore[union-attr]  # only a task can have been cancelled
    if task is not None and task.cancelling() > before:
        raise error if isinstance(error, asyncio.CancelledError) else asyncio.CancelledError from error
    if run.expired:
        raise CallTimeout(f"The handler took longer than {timeout} s.") from error
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        raise _not_cancelled(error) from error
    if error is not None:
        raise error
    return result


def _not_cancelled(error: BaseException) -> RuntimeError:
    return RuntimeError(f"The handler raised {type(error).__name__}, though nobody had cancelled it.")


class _Supervised:
    """Drives a coroutine on from where it waits, as ``await`` does, and keeps the last word on its cancellation."""

    __slots__ = (
        "_coroutine",
        "_given_up",
        "_grace",
        "_loop",
        "_task",
        "_timeout",
        "_timers",
        "_waited",
        "cancelled",
        "closed",
        "expired",
    )

    def __init__(self, coroutine: Coroutine[Any, Any, Any], waited: Any, timeout: float | None, grace: float) -> None:
        self._coroutine = coroutine
        self._waited = waited
        self._timeout = timeout
        self._grace = grace
        self._given_up = False
        self._timers: list[asyncio.TimerHandle] = []
        self.expired = False
        self.closed = False
        self.cancelled = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine, waited = self._coroutine, self._waited
        self._arm()
        try:
            while True:
                try:
                    sent = yield waited
                except asyncio.CancelledError as error:
                    if self._given_up:
                        self._close()
                        raise
                    self._begin_grace()
                    waited = coroutine.throw(error)
                except GeneratorExit:
                    self.closed = True
                    coroutine.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - whatever the task has to say is for the coroutine
                    waited = coroutine.throw(error)
                else:
                    waited = coroutine.send(sent)
        except StopIteration as done:
            return done.value
        finally:
            for timer in self._timers:
                timer.cancel()

    def _arm(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        if self._timeout is not None:
            self._timers.append(self._loop.call_later(self._timeout, self._expire))

    def _expire(self) -> None:
        self.expired = True
        self._cancel()

    def _begin_grace(self) -> None:
        if len(self._timers) < 2:
            self._timers.append(self._loop.call_later(self._grace, self._give_up))

    def _give_up(self) -> None:
        self._given_up = True
        self._cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            self.cancelled += 1
            self._task.cancel()

    def _close(self) -> None:
        """End a coroutine that goes on in spite of its cancellation: ``GeneratorExit`` is raised in it."""
        try:
            self._coroutine.close()
        except BaseException as error:  # noqa: BLE001 - it has had its chance, and its caller is answered anyway
            structlog.get_logger().warning(
                "handler could not be closed", handler=getattr(self._coroutine, "__qualname__", ""), error=repr(error)
            )
