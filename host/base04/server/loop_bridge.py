"""An ASGI application that always runs on one loop, whichever loop serves it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class OnLoop:
    """Runs ``app`` on the loop that ``loop`` returns, and hands messages over where another loop serves.

    Where ``loop`` returns None, ``app`` runs on the loop that serves.
    """

    def __init__(self, app: ASGIApp, loop: Callable[[], asyncio.AbstractEventLoop | None]) -> None:
        self._app = app
        self._loop = loop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        here, there = asyncio.get_running_loop(), self._loop()
        if there is None or there is here:
            await self._app(scope, receive, send)
            return

        async def receive_here() -> Message:
            message: Message = await across(receive(), here)
            return message

        async def send_here(message: Message) -> None:
            await across(send(message), here)

        await across(self._app(scope, receive_here, send_here), there)


async def across(awaitable: Awaitable[Any], loop: asyncio.AbstractEventLoop) -> Any:
    """Await something on another loop; cancelling the one cancels the other."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_awaited(awaitable), loop))


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
