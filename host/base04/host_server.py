"""The HTTP server: uvicorn, which leaves signals to the host and lets sockets drain."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator

import structlog
import uvicorn

from base04.errors import HostError

_log = structlog.get_logger()


class HostServer(uvicorn.Server):
    """uvicorn, with the host's own signals, and with sockets drained before connections are closed."""

    def __init__(
        self, config: uvicorn.Config, drain_timeout_s: float, drain: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        super().__init__(config)
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

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, let requests finish and clients go, then close."""
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        if self._drain is not None and not self.force_exit:
            await self._drain_sockets(self._drain)
        await super().shutdown(sockets)
        if self.force_exit:
            for task in self.server_state.tasks:
                task.cancel("the host was told to stop at once")

    async def _drain_sockets(self, drain: Callable[[], Awaitable[None]]) -> None:
        """Drain, in bounded time; whatever goes wrong, requests are still let finish."""
        self._draining = asyncio.ensure_future(drain())
        await asyncio.wait((self._draining,), timeout=self._drain_timeout_s)
        if self._draining.cancel():
            _log.warning("sockets were not drained in time", timeout_s=self._drain_timeout_s)
        (outcome,) = await asyncio.gather(self._draining, return_exceptions=True)
        if isinstance(outcome, Exception):
            _log.error("sockets could not be drained", exc_info=outcome)
