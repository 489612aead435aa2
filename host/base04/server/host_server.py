"""The HTTP server: uvicorn, which leaves signals to the host and lets sockets drain."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Set
from typing import Final

import structlog
import uvicorn

from base04.errors import HostError

_FIRST_BYTES_S: Final = 0.25
"""How long a connection that is new when the server stops may take to bring its request."""

_TICK_S: Final = 0.01

_log = structlog.get_logger()


class HostServer(uvicorn.Server):
    """uvicorn, with the host's own signals, and with sockets drained before connections are closed.

    ``beside`` are listeners of other processes, by number: connections to them are accepted while
    ``accept_beside`` says so.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        drain_timeout_s: float,
        drain: Callable[[], Awaitable[None]] | None = None,
        beside: Mapping[int, socket.socket] | None = None,
    ) -> None:
        super().__init__(config)
        self._beside = dict(beside or {})
        self._accepting: dict[int, asyncio.Server] = {}
        self._turn = asyncio.Lock()
        self._drain_timeout_s, self._drain = drain_timeout_s, drain
        self._draining: asyncio.Future[None] | None = None
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so.

        Raises:
            HostError: the lifespan of the application failed.
        """
        try:
            await super().startup(sockets)
        except SystemExit as error:
            raise HostError(
                "The application did not start: its lifespan raised, and the log has the reason."
            ) from error
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the host."""
        yield

    def force(self) -> None:
        """Wait for nobody any more."""
        self.should_exit = self.force_exit = True
        if self._draining is not None:
            self._draining.cancel()

    async def accept_beside(self, numbers: Set[int]) -> None:
        """Accept connections to these listeners of other processes too, from now on, and to no others of them."""
        async with self._turn:
            if self.should_exit:
                return
            for number in numbers - self._accepting.keys():
                server = await asyncio.get_running_loop().create_server(
                    self._protocol, sock=self._beside[number].dup(), backlog=self.config.backlog
                )
                self._accepting[number] = server
                self.servers.append(server)
            for number in self._accepting.keys() - numbers:
                server = self._accepting.pop(number)
                self.servers.remove(server)
                server.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, let requests finish and clients go, then close."""
        listeners = [*(sockets or ()), *self._beside.values()]
        async with self._turn:
            pass  # until what is told to accept now does
        spare = [listener.dup() for listener in listeners]
        for server in self.servers:
            server.close()
        for listener in listeners:
            listener.close()
        late = [connection for listener in spare for connection in _queued(listener)]
        if self.force_exit:
            for connection in late:
                connection.close()
        else:
            await self._take(late)
        if self._drain is not None and not self.force_exit:
            await self._drain_sockets(self._drain)
        await super().shutdown(sockets)
        if self.force_exit:
            for task in self.server_state.tasks:
                task.cancel("the host was told to stop at once")

    async def _take(self, late: list[socket.socket]) -> None:
        """Serve connections that clients had made already, and give those that are new a moment for their request."""
        loop = asyncio.get_running_loop()
        for connection in late:
            with contextlib.suppress(OSError):  # it is gone again
                await loop.connect_accepted_socket(self._protocol, connection)
        give_up = loop.time() + _FIRST_BYTES_S
        # uvicorn tells nobody when a request begins
        while any(map(_without_request, self.server_state.connections)) and loop.time() < give_up:  # noqa: ASYNC110
            await asyncio.sleep(_TICK_S)

    def _protocol(self) -> asyncio.Protocol:
        """Make what uvicorn makes for a connection."""
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]  # as uvicorn itself does
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    async def _drain_sockets(self, drain: Callable[[], Awaitable[None]]) -> None:
        """Drain, in bounded time; whatever goes wrong, requests are still let finish."""
        self._draining = asyncio.ensure_future(drain())
        await asyncio.wait((self._draining,), timeout=self._drain_timeout_s)
        if self._draining.cancel():
            _log.warning("sockets were not drained in time", timeout_s=self._drain_timeout_s)
        (outcome,) = await asyncio.gather(self._draining, return_exceptions=True)
        if isinstance(outcome, Exception):
            _log.error("sockets could not be drained", exc_info=outcome)


def _queued(listener: socket.socket) -> list[socket.socket]:
    """Accept what waits to be accepted, and close: the kernel resets what waits when the last process closes.

    At once: what comes in between is lost.
    """
    listener.setblocking(False)
    found = []
    with listener, contextlib.suppress(OSError):  # nothing waits any more
        while True:
            found.append(listener.accept()[0])
    return found


def _without_request(connection: object) -> bool:
    """Tell whether a connection has brought no request yet; those of WebSockets have."""
    return getattr(connection, "cycle", connection) is None
