"""Serve until a signal ends it: drain first, then stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from base04.errors import HostError
from base04.http.authentication import LOCAL_SCOPE_KEY
from base04.settings import ServerSettings
from base04_hookspecs.websocket import WebSocketManager

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from base04.app_manager import AppManager

Ready = Callable[[str], Awaitable[None]]
"""Called with the URL once the host serves."""


class HostServer(uvicorn.Server):
    """uvicorn, with the host's own signals, and with sockets drained before connections are closed."""

    def __init__(self, config: uvicorn.Config, drain: Callable[[], Awaitable[None]] | None = None) -> None:
        super().__init__(config)
        self._drain = drain
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the host."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests finish and clients go, then close."""
        if self._drain is not None:
            await self._drain()
        await super().shutdown(sockets)


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
    listener = _listen(settings.host, settings.port)
    with listener, _stopping_by_signals(asyncio.current_task()) as stopping:
        async with manager:
            served: ASGIApp = HostApplication(manager) if app is None else app
            await _serve_until_told(manager, served, settings, listener, on_ready, stopping)


class _Stopping:
    """What a signal does: cancel the start while the host starts, then tell the servers to exit."""

    def __init__(self, task: asyncio.Task[Any] | None) -> None:
        self._task, self._servers, self.signalled = task, [], False

    _servers: list[HostServer]

    def begin(self) -> None:
        if self.signalled:  # the second signal does not wait for requests
            for server in self._servers:
                server.force_exit = True
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
    app: ASGIApp,
    settings: ServerSettings,
    listener: socket.socket,
    on_ready: Ready | None,
    stopping: _Stopping,
) -> None:
    async def drain() -> None:
        manager.draining = True
        websocket = manager.generation.find("websocket")
        if isinstance(websocket, WebSocketManager):
            await websocket.drain()

    server = HostServer(_config(app, settings), drain)
    control_path = manager.folder.socket_path
    control = HostServer(_config(LocalCaller(manager.serve), settings))
    stopping.watch(server, control)
    with _control_listener(control_path) as control_socket:
        control_task = asyncio.create_task(control.serve([control_socket]))
        server_task = asyncio.create_task(server.serve([listener]))
        try:
            await _announce(manager, server, settings, listener, on_ready)
            await asyncio.wait((server_task, control_task), return_when=asyncio.FIRST_COMPLETED)
        finally:
            control.should_exit = server.should_exit = True
            await asyncio.gather(server_task, control_task)
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


def _config(app: ASGIApp, settings: ServerSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=max(1, int(settings.drain_timeout)),
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise HostError(
            f"Cannot listen on {host}:{port}: {error.strerror or error}. "
            "Choose another with --port, or with server.port in base04.yaml."
        ) from error


@contextlib.contextmanager
def _control_listener(path: Path) -> Iterator[socket.socket]:
    """Listen on a Unix socket that only its owner can open; one that a dead host left behind is replaced."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.parent.stat().st_uid != os.getuid():
        raise HostError(f"The folder {str(path.parent)!r} for the control socket belongs to somebody else.")
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(os.fspath(path))
    finally:
        os.umask(before)
    listener.listen(64)
    try:
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)
