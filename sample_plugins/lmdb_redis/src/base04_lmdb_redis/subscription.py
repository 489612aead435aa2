"""One subscription: a bounded queue, and the task that empties it in order."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from typing import Any, Final

import structlog

from base04_hookspecs.errors import ManagerError
from base04_hookspecs.redis import GapCallback, MessageCallback
from base04_lmdb_redis.arguments import from_json

_GAP: Final = object()
"""Stands in the queue where messages may have been missed."""

_log = structlog.get_logger()


class Subscription:
    """Calls one callback for the messages of a channel, one after the other, in the context of whoever subscribed.

    Where the queue is full the oldest message goes, and ``on_gap`` is called in its place.
    """

    def __init__(
        self, channel: str, callback: MessageCallback, on_gap: GapCallback | None, *, size: int, since: int
    ) -> None:
        self.callback = callback
        self.failures = self.dropped = 0
        self._channel = channel
        self._on_gap = on_gap
        self._size = size
        self._since = since
        self._waiting: deque[Any] = deque()
        self._wake = asyncio.Event()
        self._closed = self._overflown = False
        self.task = asyncio.create_task(self._deliver(), name=f"subscription to {channel}")

    def put(self, number: int, text: bytes) -> None:
        """Queue a message, where it is younger than the subscription."""
        if number <= self._since:
            return
        if len(self._waiting) >= self._size:
            self._waiting.popleft()
            self.dropped += 1
            self._overflown = True
        self._waiting.append(text)
        self._wake.set()

    def restart(self, since: int) -> None:
        """Count anew: the messages of another file are numbered from its own beginning."""
        self._since = since

    def put_gap(self) -> None:
        """Queue the news that messages may have been missed."""
        if not self._waiting or self._waiting[-1] is not _GAP:
            self._waiting.append(_GAP)
            self._wake.set()

    def close(self) -> None:
        """Deliver nothing more; a callback that is running comes to its end."""
        self._closed = True
        self._waiting.clear()
        self._wake.set()

    async def _deliver(self) -> None:
        while not self._closed:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            if self._overflown:
                self._overflown = False
                _log.warning("a subscriber is too slow, messages were dropped", channel=self._channel)
                await self._report_gap()
            elif (item := self._waiting.popleft()) is _GAP:
                await self._report_gap()
            else:
                await self._report(item)

    async def _report(self, text: bytes) -> None:
        try:
            message = from_json(text, self._channel)
        except ManagerError:
            self.failures += 1
            _log.warning("a message is not JSON and was left out", channel=self._channel)
            return
        await self._guarded(self.callback, message)

    async def _report_gap(self) -> None:
        if self._on_gap is not None:
            await self._guarded(self._on_gap)

    async def _guarded(self, callback: Any, *message: Any) -> None:
        try:
            if _is_async(callback):
                await callback(self._channel, *message)
            else:
                result = await asyncio.to_thread(callback, self._channel, *message)
                if inspect.isawaitable(result):
                    await result
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
                raise
            self.failures += 1
            _log.exception("a subscriber failed", channel=self._channel)


def _is_async(callback: Any) -> bool:
    return inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(getattr(callback, "__call__", None))  # noqa: B004
