"""The way to the server: so many calls at the same time, each within its time, none torn in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from base04_builtin.database.mongodb.errors import DRIVER_ERRORS, translated
from base04_hookspecs.errors import ManagerUnavailable, OutcomeUnknown

T = TypeVar("T")


def _nothing_sent() -> bool:
    return False


class Lane:
    """Runs each call in a task of its own, which goes on to its end when the caller is cancelled or has waited enough.

    The driver loses connections when it is cancelled while it opens one or waits for one, so it never is: its own
    timeouts end every call. Whoever waits for a turn is cancelled at once.

    Args:
        size: the most calls at the same time.
        wait_s: how long to wait for a turn.
        call_s: how long to wait for an answer.
    """

    def __init__(self, size: int, *, wait_s: float, call_s: float) -> None:
        self.size, self._wait_s, self._call_s = size, wait_s, call_s
        self._turns = asyncio.Semaphore(size)
        self._under_way: set[asyncio.Task[Any]] = set()
        self.waiting = 0
        self.errors = 0

    @property
    def in_use(self) -> int:
        """How many calls are under way."""
        return len(self._under_way)

    async def call(
        self,
        make: Callable[[], Coroutine[Any, Any, T]],
        *,
        sent: Callable[[], bool] = _nothing_sent,
        limit_s: float | None = None,
    ) -> T:
        """Make a call and await its result.

        Args:
            make: begins it.
            sent: tells, when there is no answer in time or the connection breaks, whether a change was sent.
            limit_s: how long to wait for an answer, if not as long as usual.

        Raises:
            ManagerUnavailable: there is no turn or no answer in time, and nothing was changed.
            OutcomeUnknown: there is no answer in time, and something may have been changed.
        """
        await self._turn()
        task = asyncio.create_task(make())
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        longest = limit_s or self._call_s
        try:
            await asyncio.wait([task], timeout=longest)
            if task.done():
                return task.result()
            text = f"The database did not answer within {longest:g} s (statement_timeout)."
            raise (OutcomeUnknown if sent() else ManagerUnavailable)(text)
        except DRIVER_ERRORS as error:
            self.errors += 1
            raise translated(error, writes=sent()) from error
        except (ManagerUnavailable, OutcomeUnknown):
            self.errors += 1
            raise

    async def stop(self, timeout_s: float) -> None:
        """Wait for calls that are under way, though not for ever."""
        if self._under_way:
            await asyncio.wait(set(self._under_way), timeout=timeout_s)

    async def _turn(self) -> None:
        self.waiting += 1
        try:
            async with asyncio.timeout(self._wait_s):
                await self._turns.acquire()
        except TimeoutError as error:
            self.errors += 1
            raise ManagerUnavailable(
                f"No connection to the database became free within {self._wait_s:g} s (pool_timeout): {self.size} "
                "calls are under way (pool_size)."
            ) from error
        finally:
            self.waiting -= 1

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        self._turns.release()
        if not task.cancelled():
            task.exception()  # nobody may be waiting for it any more
