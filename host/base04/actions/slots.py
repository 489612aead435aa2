"""How many runs of an action there may be at once, in this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson

from base04_hookspecs.errors import ActionBusy
from base04_hookspecs.run_policy import ConcurrencyLimit

_Key = tuple[str, bytes]


class Slots:
    """Counts what runs, by action and by the value of a parameter. Who waits is let in in the order of coming."""

    def __init__(self) -> None:
        self._places: dict[_Key, _Place] = {}

    def __len__(self) -> int:
        """Return how many kinds of runs there are just now."""
        return len(self._places)

    @contextlib.asynccontextmanager
    async def taken(
        self, action: str, limit: ConcurrencyLimit, args: Mapping[str, Any], *, patient: bool = False
    ) -> AsyncIterator[None]:
        """Hold a place while the block runs; ``patient`` waits for one without an end.

        Raises:
            ActionBusy: there is none, and none became free in time.
        """
        value = b"" if limit.by is None else orjson.dumps(args.get(limit.by), option=orjson.OPT_SORT_KEYS)
        key = (action, value)
        place = self._places.setdefault(key, _Place())
        try:
            await place.enter(limit.limit, None if patient else limit.wait)
        except TimeoutError:
            raise _busy(action, limit) from None
        finally:
            self._forget(key, place)
        try:
            yield
        finally:
            place.leave()
            self._forget(key, place)

    def _forget(self, key: _Key, place: _Place) -> None:
        if place.unused:
            self._places.pop(key, None)


class _Place:
    __slots__ = ("_running", "_waiting")

    def __init__(self) -> None:
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def unused(self) -> bool:
        return not self._running and not self._waiting

    async def enter(self, most: int, wait: float | None) -> None:
        """Take a place, or wait for one for so many seconds; raises ``TimeoutError`` where there is none."""
        if self._running < most and not self._waiting:
            self._running += 1
            return
        if wait == 0:
            raise TimeoutError
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(wait):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():  # the place was handed over just when this gave up
                self.leave()
            else:
                self._waiting.remove(turn)
            raise

    def leave(self) -> None:
        """Hand the place to who has waited longest, or free it."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._running -= 1


def _busy(action: str, limit: ConcurrencyLimit) -> ActionBusy:
    same = "" if limit.by is None else f" with the same {limit.by!r}"
    return ActionBusy(
        f"The action {action!r} runs {limit.limit} times at once already{same}, and may not run more often: try again "
        "later.",
        action=action,
    )
