"""A TCP proxy that goes wrong on demand, between a client under test and a real server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

Target = tuple[str, int] | str | Path
"""Where a server listens: host and port, or the path of a Unix socket."""

_CHUNK: Final = 65_536


@dataclass(slots=True)
class _Swallowing:
    """Which requests get no reply."""

    after_requests: int
    after_bytes: int
    matching: Callable[[bytes], bool] | None
    times: int | None
    cut: bool

    def takes(self, request: bytes) -> bool:
        """Tell whether the reply to this request is to be lost, and count it."""
        if self.times == 0 or (self.matching is not None and not self.matching(request)):
            return False
        if self.after_requests > 0:
            self.after_requests -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


class FaultyProxy:
    """Listens on a free port and passes bytes to and from a server, until it is told to misbehave.

    ::

        async with FaultyProxy(("127.0.0.1", server.port)) as proxy:
            client = connect(proxy.host, proxy.port)
            proxy.swallow_replies(matching=lambda request: b"INCR" in request, times=1, cut=True)

    Each fault lasts until ``pass_all`` or the next fault. A request is what one read from the client brings: one
    request, for clients that wait for each reply. With TLS the bytes are opaque, so that ``matching`` sees nothing.
    """

    host: Final = "127.0.0.1"

    def __init__(self, target: Target) -> None:
        self.target: Target = target
        """Where new connections go; may be changed at any time."""
        self.port = 0
        self.accepted = 0
        """How many connections have been accepted so far."""
        self.swallowed = asyncio.Event()
        """Set when the first reply has been swallowed since ``swallow_replies`` was called."""
        self._placeholder: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._delay_s = 0.0
        self._swallowing: _Swallowing | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._links)

    async def __aenter__(self) -> Self:
        self._placeholder = _bound(self.host, 0)
        self.port = self._placeholder.getsockname()[1]
        try:
            await self._listen()
        except BaseException:
            self._placeholder.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()
        if self._placeholder is not None:
            self._placeholder.close()

    async def pass_all(self) -> None:
        """Work as a proxy should, for new connections and those that are not broken."""
        self._calm()
        await self._listen()

    def delay(self, seconds: float) -> None:
        """Let every chunk of bytes, in both directions, wait this long."""
        self._calm()
        self._delay_s = seconds

    def cut(self) -> None:
        """Reset all open connections; new ones pass."""
        for link in list(self._links):
            link.abort()

    async def refuse(self) -> None:
        """Reset all open connections and refuse new ones; the port stays reserved."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self.cut()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if server is not None:
            await server.wait_closed()

    def half_open(self) -> None:
        """Hold all bytes back, of open connections and new ones, without closing any: a peer that fell silent.

        ``pass_all`` lets them flow on in order, as TCP does after an outage of the network.
        """
        self._calm()
        self._flowing.clear()

    def swallow_replies(
        self,
        *,
        after_requests: int = 0,
        after_bytes: int = 0,
        matching: Callable[[bytes], bool] | None = None,
        times: int | None = None,
        cut: bool = False,
    ) -> None:
        """Pass requests on but lose what the server answers, on each connection from its first lost reply on.

        Args:
            after_requests: how many matching requests are still answered.
            after_bytes: how many bytes of the lost reply still pass, so that it ends in its middle.
            matching: which requests lose their reply; None for all.
            times: on how many requests this happens before the proxy passes again; None for no end.
            cut: whether the connection is reset once the server has answered, rather than left silent.
        """
        self._calm()
        self.swallowed.clear()
        self._swallowing = _Swallowing(after_requests, after_bytes, matching, times, cut)

    def _calm(self) -> None:
        self._delay_s = 0.0
        self._swallowing = None
        self._flowing.set()

    async def _listen(self) -> None:
        if self._server is None:
            listener = _bound(self.host, self.port)
            try:
                self._server = await asyncio.start_server(self._accept, sock=listener)
            except BaseException:
                listener.close()
                raise

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if self._server is None or task is None:  # accepted while refusing began
            writer.transport.abort()
            return
        self.accepted += 1
        self._tasks.add(task)
        link = _Link(reader, writer)
        self._links.add(link)
        try:
            await self._serve(link)
        except asyncio.CancelledError:
            if self._server is not None:
                raise
        finally:
            link.abort()
            self._links.discard(link)
            self._tasks.discard(task)

    async def _serve(self, link: _Link) -> None:
        await self._flowing.wait()
        try:
            await link.connect(self.target)
        except OSError:
            return
        pumps: list[Coroutine[Any, Any, None]] = [self._requests(link), self._replies(link)]
        tasks = [asyncio.create_task(pump) for pump in pumps]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _requests(self, link: _Link) -> None:
        async for chunk in _chunks(link.client_reader):
            await self._hold_back()
            swallowing = self._swallowing
            if swallowing is not None and not link.deaf and swallowing.takes(chunk):
                link.deaf, link.allowance, link.cut = True, swallowing.after_bytes, swallowing.cut
            await _pass(chunk, link.server_writer)
        _half_close(link.server_writer)

    async def _replies(self, link: _Link) -> None:
        async for chunk in _chunks(link.server_reader):
            await self._hold_back()
            if not link.deaf:
                await _pass(chunk, link.client_writer)
                continue
            passing, link.allowance = chunk[: link.allowance], max(0, link.allowance - len(chunk))
            await _pass(passing, link.client_writer)
            if len(passing) < len(chunk):
                self.swallowed.set()
                if link.cut:
                    link.abort()
                    return
        _half_close(link.client_writer)

    async def _hold_back(self) -> None:
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        await self._flowing.wait()


class _Link:
    """One connection of a client and the one to the server that belongs to it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.client_reader, self.client_writer = reader, writer
        self.server_reader, self.server_writer = asyncio.StreamReader(), writer
        self.deaf, self.allowance, self.cut = False, 0, False

    async def connect(self, target: Target) -> None:
        if isinstance(target, tuple):
            self.server_reader, self.server_writer = await asyncio.open_connection(*target)
        else:
            self.server_reader, self.server_writer = await asyncio.open_unix_connection(str(target))

    def abort(self) -> None:
        for writer in (self.client_writer, self.server_writer):
            _reset(writer)


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(_CHUNK):
            yield chunk


async def _pass(chunk: bytes, writer: asyncio.StreamWriter) -> None:
    if chunk:
        with contextlib.suppress(ConnectionError):
            writer.write(chunk)
            await writer.drain()


def _half_close(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, RuntimeError):
        if writer.can_write_eof() and not writer.is_closing():
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close at once; the peer sees a reset rather than the end of the stream."""
    sock = writer.get_extra_info("socket")
    if sock is not None and not writer.is_closing() and sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket that is bound and does not listen yet: until it does, the system refuses connections."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock
