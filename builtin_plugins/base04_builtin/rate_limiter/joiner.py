"""Joining the calls of concurrent callers into one run of a script."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from contextvars import Context
from typing import Any, Final

from base04_builtin.rate_limiter.check_script import CHECK
from base04_hookspecs.errors import ManagerUnavailable
from base04_hookspecs.redis import RedisManager

_MOST_KEYS: Final = 2000
"""How many keys go into one run; Lua unpacks no more than 8,000."""

_MOST_CALLS: Final = 128

_Call = tuple[Sequence[str], str, "asyncio.Future[list[Any]]"]


class CallJoiner:
    """Runs the check script, for one call alone, or for all that came while another run was on its way.

    A single caller so waits for nobody, and many share round trips. The run for several has a task of its own: a
    caller that is cancelled takes nobody along.
    """

    def __init__(self, redis: RedisManager) -> None:
        self._redis = redis
        self._on_its_way = False
        self._waiting: deque[_Call] = deque()
        self._task: asyncio.Task[None] | None = None

    async def run(self, keys: Sequence[str], plan: str) -> list[Any]:
        """Return the reply to one call."""
        if self._on_its_way:
            reply: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
            self._waiting.append((keys, plan, reply))
            return await reply
        self._on_its_way = True
        try:
            (alone,) = await self._redis.run_script(CHECK, keys, (plan,))
            return alone  # type: ignore[no-any-return]  # what the script returns
        finally:
            if self._waiting:
                self._task = asyncio.create_task(
                    self._run_waiting(),
                    name="rate-limiter-calls",
                    context=Context(),  # it belongs to no request, whichever begins it
                )
            else:
                self._on_its_way = False

    async def stop(self) -> None:
        """End; calls that wait fail."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run_waiting(self) -> None:
        """Run what waits, together, until nothing does."""
        calls: list[_Call] = []
        try:
            while self._waiting:
                calls = self._next()
                if calls:
                    await self._run_together(calls)
        finally:
            self._on_its_way = False
            _fail((*calls, *self._waiting), ManagerUnavailable("The rate limiter has stopped."))
            self._waiting.clear()

    def _next(self) -> list[_Call]:
        calls: list[_Call] = []
        keys = 0
        while self._waiting and len(calls) < _MOST_CALLS and keys < _MOST_KEYS:
            call = self._waiting.popleft()
            if not call[2].done():  # or its caller was cancelled
                calls.append(call)
                keys += len(call[0])
        return calls

    async def _run_together(self, calls: Sequence[_Call]) -> None:
        keys = [key for names, _, _ in calls for key in names]
        try:
            replies = await self._redis.run_script(CHECK, keys, [plan for _, plan, _ in calls])
        except Exception as error:  # noqa: BLE001 - each caller gets it
            _fail(calls, error)
            return
        for (_, _, reply), answer in zip(calls, replies, strict=True):
            if not reply.done():
                reply.set_result(answer)


def _fail(calls: Iterable[_Call], error: Exception) -> None:
    for _, _, reply in calls:
        if not reply.done():
            reply.set_exception(error)
            reply.exception()  # nobody may be left to look at it
