"""A host of a test on a real port, for WebSocket and for clients that are programs of their own."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import uvicorn

from base04.app_manager import AppManager
from base04.server.host_server import HostServer
from base04_hookspecs.websocket import WebSocketManager


@dataclass(frozen=True, slots=True)
class Served:
    """Where a host serves."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """What HTTP clients connect to."""
        return f"http://{self.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        """What WebSocket clients connect to, with the path of the role ``websocket``."""
        return f"ws://{self.host}:{self.port}/ws"


@asynccontextmanager
async def serving(app: AppManager) -> AsyncIterator[Served]:
    """Serve a host that has started on a free port of the loopback interface, and drain its sockets at the end."""
    settings = app.settings.server
    config = uvicorn.Config(
        app.serve,
        interface="asgi3",
        ws="websockets-sansio",
        ws_max_size=settings.max_body_bytes,
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.drain_timeout),
    )

    async def drain() -> None:
        websocket = app.generation.find("websocket")
        if isinstance(websocket, WebSocketManager):
            await websocket.drain()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = HostServer(config, settings.drain_timeout, drain)
        task = asyncio.create_task(server.serve([listener]), name="served host")
        listening = asyncio.create_task(server.listening.wait())
        try:
            await asyncio.wait((task, listening), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
            host, port = listener.getsockname()[:2]
            yield Served(host, port)
        finally:
            listening.cancel()
            server.should_exit = True
            await task
