"""Refusing a WebSocket with a real HTTP answer."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_GONE_S: Final = 1.0


async def refuse_handshake(answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a handshake that is not accepted; a server that cannot send the answer sends its plain 403."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008, "reason": ""})
        return
    await answer(scope, receive, send)
    # uvicorn 0.54 logs an error for an application that returns before the refused connection is gone.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_GONE_S):
            while (await receive())["type"] == "websocket.connect":
                pass
            await receive()
