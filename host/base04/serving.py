"""Serve until a signal ends it: drain first, then stop."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
import stat
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import structlog
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from base04.data_folder import DataFolder
from base04.errors import HostError
from base04.http.authentication import LOCAL_SCOPE_KEY
from base04.settings import ServerSettings
from base04_hookspecs.websocket import WebSocketManager

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from base04.app_manager import AppManager

Ready = Callable[[str], Awaitable[None]]
"""Called with the URL once the host serves."""

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


class LocalCaller:
    """Marks what comes in through the control socket as the host's own user."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        scope[LOCAL_SCOPE_KEY] = True
        await self._app(scope, receive, send)


def run(manager: AppManager, app: Starlette | None = None, *, on_ready: Ready | None = None, **overrides: Any) -> None:
    """Serve in the foreground. ``overrides`` (``host``, ``port``) take the place of settings."""
    import uvloop

    uvloop.run(serve(manager, app, on_ready=on_ready, **overrides))


async def serve(
    manager: AppManager, app: Starlette | None = None, *, on_ready: Ready | None = None, **overrides: Any
) -> None:
    """Start the host, serve TCP and the control socket, and stop it when a signal comes.

    Raises:
        HostError: the address cannot be listened on, or the host cannot start.
    """
    from base04.http.application import HostApplication

    settings = ServerSettings.model_validate({**manager.settings.server.model_dump(), **overrides})
    listener = _listen(settings.host, settings.port, manager.folder)
    with listener, _stopping_by_signals(asyncio.current_task()) as stopping:
        try:
            await manager.start()
            served = _config(HostApplication(manager), settings) if app is None else _config(app, settings, "on")
            await _serve_until_told(manager, served, settings, listener, on_ready, stopping)
        finally:
            await manager.stop()  # also what had started when a signal ended the start


class _Stopping:
    """What a signal does: cancel the start while the host starts, then tell the servers to exit."""

    def __init__(self, task: asyncio.Task[Any] | None) -> None:
        self._task, self._servers, self.signalled = task, [], False

    _servers: list[HostServer]

    def begin(self) -> None:
        if self.signalled:  # the second signal does not wait for requests
            for server in self._servers:
                server.force()
        self.signalled = True
        for server in self._servers:
            server.should_exit = True
        if not self._servers and self._task is not None:
            self._task.cancel()

    def watch(self, *servers: HostServer) -> None:
        self._servers = list(servers)


@contextlib.contextmanager
def _stopping_by_signals(task: asyncio.Task[Any] | None) -> Iterator[_Stopping]:
    stopping = _Stopping(task)
    loop = asyncio.get_running_loop()
    handled = (signal.SIGTERM, signal.SIGINT)
    with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread: whoever runs the loop ends it
        for number in handled:
            loop.add_signal_handler(number, stopping.begin)
    try:
        yield stopping
    except asyncio.CancelledError:
        if not stopping.signalled:
            raise
    finally:
        for number in handled:
            with contextlib.suppress(ValueError, RuntimeError):
                loop.remove_signal_handler(number)


async def _serve_until_told(
    manager: AppManager,
    served: uvicorn.Config,
    settings: ServerSettings,
    listener: socket.socket,
    on_ready: Ready | None,
    stopping: _Stopping,
) -> None:
    async def drain() -> None:
        manager.draining = True
        _log.info("the host drains")
        websocket = manager.generation.find("websocket")
        if isinstance(websocket, WebSocketManager):
            await websocket.drain()

    server = HostServer(served, settings.drain_timeout, drain)
    control = HostServer(_config(LocalCaller(manager.serve), settings), settings.drain_timeout)
    stopping.watch(server, control)
    with _control_listener(manager.folder) as control_socket:
        servers = [
            asyncio.create_task(control.serve([control_socket])),
            asyncio.create_task(server.serve([listener])),
        ]
        announcement = asyncio.create_task(_announce(manager, server, settings, listener, on_ready))
        try:
            await asyncio.wait((announcement, *servers), return_when=asyncio.FIRST_COMPLETED)
            if announcement.done():
                announcement.result()
            await asyncio.wait(servers, return_when=asyncio.FIRST_COMPLETED)
        finally:
            control.should_exit = server.should_exit = True
            announcement.cancel()
            await asyncio.gather(*servers)
            manager.draining = False


async def _announce(
    manager: AppManager, server: HostServer, settings: ServerSettings, listener: socket.socket, on_ready: Ready | None
) -> None:
    await server.listening.wait()
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{listener.getsockname()[1]}"
    manager.folder.announce(url)
    if on_ready is not None:
        await on_ready(url)


def _config(app: ASGIApp, settings: ServerSettings, lifespan: Literal["on", "off"] = "off") -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        lifespan=lifespan,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=math.ceil(settings.drain_timeout),
    )


def _listen(host: str, port: int, folder: DataFolder) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        if folder.holder() is not None:  # then that is what the port is taken by, in all likelihood
            folder.acquire()
            folder.release()
        known = error.errno is not None and not isinstance(error, socket.gaierror)
        reason = os.strerror(error.errno) if known else error.strerror
        raise HostError(
            f"Cannot listen on {host}:{port}: {reason or error}. "
            "Choose another with --port, or with server.port in base04.yaml."
        ) from error


@contextlib.contextmanager
def _control_listener(folder: DataFolder) -> Iterator[socket.socket]:
    """Listen on a Unix socket that only its owner can open; one that a dead host left behind is replaced."""
    path = folder.socket_path
    if path.parent != folder.path:
        _make_private(path.parent)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            listener.bind(os.fspath(path))
        except OSError as error:
            raise HostError(
                f"Cannot listen on the control socket {str(path)!r}: {error.strerror or error}. "
                "Use a data_dir with a shorter path, or a shorter TMPDIR."
            ) from error
        finally:
            os.umask(before)
        listener.listen(64)
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)


def _make_private(path: Path) -> None:
    """Make a folder below a shared one, where somebody else may have been first."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise HostError(
            f"The folder {str(path)!r}, for the control socket, is not private to this user. Remove it, or use a "
            "data_dir with a shorter path, which then holds the socket itself."
        )
