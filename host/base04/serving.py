"""Serve until a signal ends it: drain first, then stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Literal

import structlog
import uvicorn
from starlette.types import ASGIApp

from base04.control_socket import LocalCaller, control_listener
from base04.data_folder import DataFolder
from base04.errors import HostError
from base04.host_server import HostServer
from base04.settings import ServerSettings
from base04_hookspecs.websocket import WebSocketManager

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from base04.app_manager import AppManager

Ready = Callable[[str], Awaitable[None]]
"""Called with the URL once the host serves."""

_YOUNG: Final = 10_000
"""How many objects are made before cycles are looked for: a few hundred requests make so many, and hardly any cycle."""

_SWITCH_S: Final = 0.0005
"""How long a thread that reads or imports, as for a change at run time, keeps the loop waiting; Python has 5 ms."""

_log = structlog.get_logger()


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
        async with manager, _reloading_by_signal(manager):
            served = _config(HostApplication(manager), settings) if app is None else _config(app, settings, "on")
            await _serve_until_told(manager, served, settings, listener, on_ready, stopping)


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


@contextlib.asynccontextmanager
async def _reloading_by_signal(manager: AppManager) -> AsyncIterator[None]:
    """Let SIGHUP have the host read everything anew; what is wrong then is logged and changes nothing."""
    loop = asyncio.get_running_loop()
    under_way: set[asyncio.Task[None]] = set()

    async def reload() -> None:
        try:
            await manager.reload()
        except Exception as error:  # noqa: BLE001 - the host goes on as it is, whatever was found; it is reported
            _log.error("the host was not reloaded", error=str(error))

    def begin() -> None:
        task = asyncio.create_task(reload(), name="reload")
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread: nobody signals there
        loop.add_signal_handler(signal.SIGHUP, begin)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError, RuntimeError):
            loop.remove_signal_handler(signal.SIGHUP)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


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
        await manager.executions.drain()
        websocket = manager.generation.find("websocket")
        if isinstance(websocket, WebSocketManager):
            await websocket.drain()

    server = HostServer(served, settings.drain_timeout, drain)
    control = HostServer(_config(LocalCaller(manager.serve), settings), settings.drain_timeout)
    stopping.watch(server, control)
    with control_listener(manager.folder) as control_socket:
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
    sys.setswitchinterval(_SWITCH_S)
    gc.freeze()  # what is there now stays: looking through it again and again costs a tenth of the throughput
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
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
        ws_max_size=settings.max_body_bytes,
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
        number = None if isinstance(error, socket.gaierror) else error.errno
        reason = error.strerror if number is None else os.strerror(number)
        raise HostError(
            f"Cannot listen on {host}:{port}: {reason or error}. "
            "Choose another with --port, or with server.port in base04.yaml."
        ) from error
