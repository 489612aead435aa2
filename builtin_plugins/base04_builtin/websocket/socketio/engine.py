"""Engine.IO and Socket.IO with bounds, and with an end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final

import engineio
import socketio
import structlog
from socketio.packet import ACK

from base04_builtin.websocket.socketio.packet import RESERVED, JSONPacket

_log = structlog.get_logger()

_library_log: Final = logging.getLogger("base04_builtin.websocket.socketio.library")
_library_log.setLevel(logging.WARNING)  # below that the libraries write down whole packets, with the tokens in them

NAMESPACE: Final = "/"

Reply = Callable[[dict[str, Any]], Awaitable[None]]
"""Called with ``{"result": ...}`` or ``{"error": {"code": ..., "message": ..., ...}}``."""

_FROM_CLIENTS: Final = frozenset("0123")
"""CONNECT, DISCONNECT, EVENT and ACK."""
_BETWEEN_CANCELS_S: Final = 0.05


class Transport:
    """The task in which a WebSocket is served, to end it from outside."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._cancels = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._abort: asyncio.Task[None] | None = None

    def abort_in(self, seconds: float) -> None:
        """End the task after some time, unless it ends by itself."""
        if self._deadline is None and self._task is not None:
            self._deadline = asyncio.get_running_loop().call_later(seconds, self.abort)

    def abort(self) -> None:
        """End the task now."""
        if self._abort is None and self._task is not None:
            self._abort = asyncio.get_running_loop().create_task(self._cancel(self._task), name="socketio abort")

    def ended(self) -> bool:
        """Know that the task serves it no longer; True if nobody but this object has cancelled the task."""
        task, self._task = self._task, None
        if self._deadline is not None:
            self._deadline.cancel()
        if task is None:
            return True
        for _ in range(self._cancels):
            task.uncancel()
        return task.cancelling() == 0

    async def _cancel(self, task: asyncio.Task[Any]) -> None:
        # The library takes a first cancellation for the end of the stream, and then waits for its writer.
        while self._task is not None:
            self._cancels += 1
            task.cancel()
            await asyncio.wait([task], timeout=_BETWEEN_CANCELS_S)


class BoundedEngine(engineio.AsyncServer):
    """Engine.IO whose queues end somewhere, and whose tasks can be ended.

    Args:
        queue_messages: how many packets may wait for a connection.
        on_slow: called with the ``eio_sid`` of a connection whose queue is full.
    """

    def __init__(self, *, queue_messages: int, on_slow: Callable[[str], None], **options: Any) -> None:
        super().__init__(**options)
        self._queue_messages = queue_messages
        self._on_slow = on_slow
        self._tasks: set[asyncio.Task[Any]] = set()

    def start_background_task(
        self, target: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **kwargs: Any
    ) -> asyncio.Task[Any]:
        """Start a task that ``end_tasks`` ends."""
        task = asyncio.get_running_loop().create_task(target(*args, **kwargs))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def end_tasks(self) -> None:
        """Cancel what still runs."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def send_packet(self, sid: str, pkt: Any) -> None:
        """Queue a packet, unless as many wait already as may."""
        socket = self.sockets.get(sid)
        if socket is not None and socket.queue.qsize() >= self._queue_messages:
            self._on_slow(sid)
            return
        await super().send_packet(sid, pkt)


class GuardedServer(socketio.AsyncServer):
    """Socket.IO that ends a connection that does not keep to the protocol.

    Args:
        on_open: called with the ``eio_sid`` and the ASGI scope of a new connection, before it says who it is.
        on_end: called with the ``eio_sid`` of a connection that has ended.
        on_event: called with sid, name, data and how to answer, for each event of a client that has said who it is.
        options: those of python-socketio, and of ``BoundedEngine``.
    """

    def __init__(
        self,
        *,
        on_open: Callable[[str, Any], None],
        on_end: Callable[[str], None],
        on_event: Callable[[str, str, Any, Reply], Awaitable[None]],
        **options: Any,
    ) -> None:
        super().__init__(
            async_mode="asgi",
            serializer=JSONPacket,
            logger=_library_log,
            engineio_logger=_library_log,
            **options,
        )
        self._on_open = on_open
        self._on_end = on_end
        self._on_event = on_event

    async def end(self, eio_sid: str) -> None:
        """Close a connection, in whatever state; the client's library connects again by itself."""
        socket = self.eio.sockets.get(eio_sid)
        if socket is not None and not socket.closed:
            await socket.close(wait=False)

    def _engineio_server_class(self) -> type[BoundedEngine]:
        return BoundedEngine

    async def _handle_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> None:
        await super()._handle_eio_connect(eio_sid, environ)
        self._on_open(eio_sid, environ["asgi.scope"])

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        await super()._handle_eio_disconnect(eio_sid, reason)
        self._on_end(eio_sid)
        socket = self.eio.sockets.get(eio_sid)
        if socket is not None:
            # After what is put there in this step, it makes the library close a WebSocket and answer whoever polls.
            asyncio.get_running_loop().call_soon(socket.queue.put_nowait, None)

    async def _handle_eio_message(self, eio_sid: str, data: Any) -> None:
        try:
            if not isinstance(data, str) or data[:1] not in _FROM_CLIENTS:
                raise ValueError("it is binary, or no packet that a client may send")
            await super()._handle_eio_message(eio_sid, data)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as exc:
            _log.info("socketio connection closed for a packet that cannot be read", eio_sid=eio_sid, reason=str(exc))
            await self.end(eio_sid)

    async def _handle_event(self, eio_sid: str, namespace: str | None, id: int | None, data: Any) -> None:
        if not isinstance(data, list) or not data or not isinstance(data[0], str) or data[0] in RESERVED:
            raise ValueError("an event is a list that begins with a name that is not reserved")
        sid = self.manager.sid_from_eio_sid(eio_sid, namespace or NAMESPACE)
        if sid is not None and self.manager.is_connected(sid, NAMESPACE):
            reply = partial(self._reply, sid, eio_sid, id)
            await self._on_event(sid, data[0], data[1] if len(data) > 1 else None, reply)

    async def _reply(self, sid: str, eio_sid: str, id: int | None, answer: dict[str, Any]) -> None:
        """Acknowledge an event; who wants no acknowledgement hears of errors alone, as an event."""
        if id is not None:
            await self._send_packet(eio_sid, JSONPacket(ACK, data=[answer], namespace=NAMESPACE, id=id))
        elif "error" in answer:
            await self.emit("error", answer["error"], to=sid, ignore_queue=True)
