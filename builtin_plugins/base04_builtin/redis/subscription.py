"""One subscription: a bounded queue and the task that empties it in order."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

import structlog

from base04_builtin.callbacks import call, is_cancellation, qualified_name
from base04_builtin.redis.json_text import decode
from base04_hookspecs.errors import ManagerError
from base04_hookspecs.redis import GapCallback, MessageCallback

log = structlog.get_logger()

_GAP: Final = object()
"""Stands in the queue where messages may have been missed."""


class Subscription:
    """Delivers the messages of a channel to one callback, one after the other, in a task of its own.

    The publisher never waits: where the queue is full the oldest message goes, and ``on_gap`` is called before the
    next one. The callback runs in the context of whoever subscribed.
    """

    def __init__(self, channel: str, callback: MessageCallback, on_gap: GapCallback | None, size: int) -> None:
        self.callback = callback
        self.failures = 0
        self.dropped = 0
        self._channel = channel
        self._on_gap = on_gap
        self._waiting: deque[Any] = deque()
        self._size = size
        self._dropped_before = 0
        self._closed = False
        self._wake = asyncio.Event()
        self.task = asyncio.create_task(self._deliver(), name=f"subscription to {channel}")

    def put(self, raw: str | bytes) -> None:
        """Queue a message, which is JSON."""
        if len(self._waiting) >= self._size:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(raw)
        self._wake.set()

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
            if self.dropped > self._dropped_before:
                self._dropped_before = self.dropped
                log.warning("subscriber too slow, messages dropped", channel=self._channel, dropped=self.dropped)
                await self._report_gap()
            elif self._waiting:
                await self._take(self._waiting.popleft())
            else:
                self._wake.clear()
                await self._wake.wait()

    async def _take(self, raw: Any) -> None:
        if raw is _GAP:
            await self._report_gap()
            return
        try:
            message = decode(raw, self._channel)
        except ManagerError:
            self.failures += 1
            log.warning("message is not JSON and was skipped", channel=self._channel, size=len(raw))
            return
        await self._guarded(self.callback, message)

    async def _report_gap(self) -> None:
        if self._on_gap is not None:
            await self._guarded(self._on_gap)

    async def _guarded(self, callback: Any, *message: Any) -> None:
        try:
            await call(callback, self._channel, *message)
        except (Exception, asyncio.CancelledError) as error:
            if is_cancellation(error):
                raise
            self.failures += 1
            log.exception("subscriber callback failed", channel=self._channel, callback=qualified_name(callback))
