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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import structlog
import uvicorn
from starlette.types import ASGIApp

from base04.data_folder import DataFolder
from base04.errors import HostError
from base04.server.control_socket import LocalCaller, control_listener
from base04.server.host_server import HostServer
from base04.server.loop_guard import run_guarded
from base04.settings import ServerSettings
from base04_hookspecs.websocket import WebSocketManager

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from base04.app_manager import AppManager

Ready = Callable[[str], Awaitable[None]]
"""Called with the URL once the host serves."""

WhenListening = Callable[[HostServer], Awaitable[None]]
"""Called with the server once it accepts connections."""

_YOUNG: Final = 10_000
"""How many objects are made before cycles are looked for: a few hundred requests make so many, and hardly any cycle."""

_BACKLOG: Final = 2048
"""How many connections may wait to be accepted."""

_SWITCH_S: Final = 0.0005
"""How long a thread that reads or imports, as for a change at run time, keeps the loop waiting; Python has 5 ms."""

_log = structlog.get_logger()


def run(manager: AppManager, app: Starlette | None = None, *, on_ready: Ready | None = None, **overrides: Any) -> None:
    """Serve in the foreground. ``overrides`` (``host``, ``port``) take the place of settings."""
    import uvloop

    run_guarded(serve(manager, app, on_ready=on_ready, **overrides), loop_factory=uvloop.new_event_loop)


async def serve(
    manager: AppManager, app: Starlette | None = None, *, on_ready: Ready | None = None, **overrides: Any
) -> None:
    """Start the host, serve TCP and the control socket, and stop it when a signal comes.

    Raises:
        HostError: the address cannot be listened on, or the host cannot start.
    """
    from base04.http.application import HostApplication

    settings = ServerSettings.model_validate({**manager.settings.server.model_dump(), **overrides})
    if settings.workers > 1:
        _log.warning("server.workers is for `base04 serve`; here one process serves", workers=settings.workers)
    listener = listen(settings.host, settings.port, manager.folder)

    async def listening(_: HostServer) -> None:
        url = url_of(settings, listener)
        manager.folder.announce(url)
        if on_ready is not None:
            await on_ready(url)

    with listener, stopping_by_signals(Stopping(asyncio.current_task())) as stopping:
        async with manager, reloading_by_signal(manager):
            if app is None:
                served = server_config(HostApplication(manager), settings)
            else:
                served = server_config(app, settings, "on")
            with control_listener(manager.folder) as control:
                await serve_until_told(manager, served, settings, [listener], [control], stopping, listening)


class Stopping:
    """What a signal does: cancel the start while the host starts, then tell the servers to exit."""

    def __init__(self, task: asyncio.Task[Any] | None) -> None:
        self._task, self._servers, self.signalled = task, [], False
        self._manager: AppManager | None = None

    _servers: list[HostServer]

    def signal(self) -> None:
        """Take a signal; the second one does not wait for requests."""
        self.begin(at_once=self.signalled)

    def begin(self, *, at_once: bool = False) -> None:
        """Begin to stop; ``at_once`` without waiting for requests."""
        self.signalled = True
        if self._manager is not None:  # at once: what is cancelled now is answered with 503
            self._manager.draining = True
        for server in self._servers:
            if at_once:
                server.force()
            server.should_exit = True
        if not self._servers and self._task is not None:
            self._task.cancel()

    def watch(self, manager: AppManager, *servers: HostServer) -> None:
        """Have these servers exit from now on, which serve a host."""
        self._manager, self._servers = manager, list(servers)


@contextlib.contextmanager
def stopping_by_signals(stopping: Stopping) -> Iterator[Stopping]:
    """Let SIGTERM and SIGINT stop what runs within; a start that is cancelled by them ends in silence."""
    loop = asyncio.get_running_loop()
    handled = (signal.SIGTERM, signal.SIGINT)
    with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread: whoever runs the loop ends it
        for number in handled:
            loop.add_signal_handler(number, stopping.signal)
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
async def reloading_by_signal(manager: AppManager) -> AsyncIterator[None]:
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


async def serve_until_told(
    manager: AppManager,
    served: uvicorn.Config,
    settings: ServerSettings,
    listeners: Sequence[socket.socket],
    controls: Sequence[socket.socket],
    stopping: Stopping,
    when_listening: WhenListening,
    beside: Mapping[int, socket.socket] | None = None,
) -> None:
    """Serve clients on ``listeners`` and the host's own user on ``controls``, until ``stopping`` begins; then drain.

    ``when_listening`` is called once connections are accepted; if it raises, serving ends. ``beside`` are listeners of
    other processes, as ``HostServer`` takes them.
    """

    async def drain() -> None:
        manager.draining = True
        _log.info("the host drains")
        await manager.executions.drain()
        websocket = manager.generation.find("websocket")
        if isinstance(websocket, WebSocketManager):
            await websocket.drain()

    server = HostServer(served, settings.drain_timeout, drain, beside)
    control = HostServer(server_config(LocalCaller(manager.serve), settings), settings.drain_timeout)
    stopping.watch(manager, server, control)
    servers = [asyncio.create_task(control.serve([*controls])), asyncio.create_task(server.serve([*listeners]))]
    announcement = asyncio.create_task(_announce(server, control, when_listening))
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


async def _announce(server: HostServer, control: HostServer, when_listening: WhenListening) -> None:
    await server.listening.wait()
    await control.listening.wait()
    sys.setswitchinterval(_SWITCH_S)
    gc.freeze()  # what is there now stays: looking through it again and again costs a tenth of the throughput
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
    await when_listening(server)


def url_of(settings: ServerSettings, listener: socket.socket) -> str:
    """Return where a listener is reached."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{listener.getsockname()[1]}"


def server_config(app: ASGIApp, settings: ServerSettings, lifespan: Literal["on", "off"] = "off") -> uvicorn.Config:
    """Return how uvicorn serves an application."""
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


def listen(host: str, port: int, folder: DataFolder) -> socket.socket:
    """Listen on an address.

    Raises:
        HostError: it cannot be; the message says why.
    """
    try:
        return socket.create_server((host, port), family=_family(host), backlog=_BACKLOG)
    except OSError as error:
        raise _not_free(host, port, folder, error) from error


def listen_apart(host: str, port: int, folder: DataFolder, number: int) -> list[socket.socket]:
    """Listen on one address with several sockets, among which the kernel spreads connections; elsewhere with one.

    Raises:
        HostError: it cannot be; the message says why.
    """
    if sys.platform != "linux":  # others take the newest of several sockets alone
        return [listen(host, port, folder)] * number
    found: list[socket.socket] = []
    try:
        with socket.socket(_family(host)) as probe:  # two hosts would share the port in silence
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        for _ in range(number):
            address = (host, found[0].getsockname()[1] if found else port)
            found.append(socket.create_server(address, family=_family(host), backlog=_BACKLOG, reuse_port=True))
    except OSError as error:
        for listener in found:
            listener.close()
        raise _not_free(host, port, folder, error) from error
    return found


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _not_free(host: str, port: int, folder: DataFolder, error: OSError) -> HostError:
    if not folder.held and folder.holder() is not None:  # then that is what the port is taken by, in all likelihood
        folder.acquire()
        folder.release()
    number = None if isinstance(error, socket.gaierror) else error.errno
    reason = error.strerror if number is None else os.strerror(number)
    return HostError(
        f"Cannot listen on {host}:{port}: {reason or error}. "
        "Choose another with --port, or with server.port in base04.yaml."
    )
