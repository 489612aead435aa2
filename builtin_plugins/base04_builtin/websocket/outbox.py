"""Sending to one connection without waiting for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from types import CoroutineType
from typing import Any

import structlog

from base04_builtin.websocket.messages import Frame
from base04_hookspecs.websocket import ASGISend

_log = structlog.get_logger()


_Steps = Generator[Any, Any, None] | Coroutine[Any, Any, None]


class _Suspended:
    """The rest of an awaitable whose first step was run outside of a task."""

    __slots__ = ("_steps", "_waiting")

    def __init__(self, steps: _Steps, waiting: Any) -> None:
        self._steps = steps
        self._waiting = waiting

    def __await__(self) -> Generator[Any, Any, None]:
        waiting = self._waiting
        try:
            while True:
                try:
                    value = yield waiting
                except BaseException as exc:  # noqa: BLE001 - cancellation belongs to the awaitable itself
                    waiting = self._steps.throw(exc)
                else:
                    waiting = self._steps.send(value)
        except StopIteration:
            return

    def close(self) -> None:
        self._steps.close()


class Outbox:
    """Sends messages in order and never makes the sender wait.

    As long as the server takes a message at once, sending is one call, without a task or a queue. The first write
    that blocks gets a task, and what comes meanwhile waits in a bounded queue.

    Args:
        send: the ASGI ``send`` of the connection.
        max_messages: how many messages may wait.
        max_bytes: how many characters they may have together; a single one may have more.
        timeout: the seconds for which one write may block.
        on_slow: called when the queue is full or a write blocks for too long.
    """

    __slots__ = (
        "_blocked",
        "_ended",
        "_max_messages",
        "_max_size",
        "_on_slow",
        "_queue",
        "_send",
        "_size",
        "_timeout",
        "_timer",
        "_writer",
    )

    def __init__(
        self, send: ASGISend, *, max_messages: int, max_bytes: int, timeout: float, on_slow: Callable[[], object]
    ) -> None:
        self._send = send
        self._max_messages = max_messages
        self._max_size = max_bytes
        self._timeout = timeout
        self._on_slow = on_slow
        self._queue: deque[Frame] = deque()
        self._size = 0
        self._blocked: _Suspended | None = None
        self._writer: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False

    def put(self, message: Frame) -> bool:
        """Send a message, now or when its turn comes; False where the connection has ended or is too slow."""
        if self._ended:
            return False
        if self._writer is None:
            return self._write(message)
        size = _size(message)
        if len(self._queue) >= self._max_messages or (self._queue and self._size + size > self._max_size):
            self._on_slow()
            return False
        self._queue.append(message)
        self._size += size
        return True

    def end(self, message: Frame, *, discard: bool = False) -> None:
        """Send a last message after those that wait, or with ``discard`` in place of them."""
        if self._ended:
            return
        self._ended = True
        if discard:
            self._queue.clear()
        if self._writer is None:
            self._write(message)
        else:
            self._queue.append(message)

    async def flushed(self) -> None:
        """Return when nothing waits any more."""
        while self._writer is not None:
            await asyncio.wait([self._writer])

    def abort(self) -> None:
        """Give up what could not be sent."""
        self._ended = True
        self._queue.clear()
        if self._writer is not None:
            self._writer.cancel()

    def _write(self, message: Frame) -> bool:
        try:
            sending = self._send(message)
            steps = sending if type(sending) is CoroutineType else sending.__await__()
            waiting = steps.send(None)
        except StopIteration:
            return True
        except Exception as exc:  # noqa: BLE001 - whatever a server raises here, the connection is gone
            self._lost(exc)
            return False
        self._blocked = _Suspended(steps, waiting)
        self._writer = asyncio.get_running_loop().create_task(self._drain(self._blocked), name="websocket writer")
        self._writer.add_done_callback(self._drained)
        self._start_timer()
        return True

    async def _drain(self, blocked: _Suspended) -> None:
        try:
            await blocked
            while self._queue:
                message = self._queue.popleft()
                self._size -= _size(message)
                self._start_timer()
                await self._send(message)
        except Exception as exc:  # noqa: BLE001 - whatever a server raises here, the connection is gone
            self._lost(exc)

    def _drained(self, _writer: asyncio.Task[None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._blocked is not None:
            self._blocked.close()  # for a task that was cancelled before it began
        self._timer = self._blocked = self._writer = None

    def _start_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._timeout, self._on_slow)

    def _lost(self, exc: Exception) -> None:
        self._ended = True
        self._queue.clear()
        if not isinstance(exc, OSError):
            _log.debug("websocket send failed", error=repr(exc))


def _size(message: Frame) -> int:
    return len(message.get("text") or "")
