"""Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html) for changes of a state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import orjson
from starlette.responses import StreamingResponse

from base04_hookspecs.errors import HistoryPruned, ManagerError
from base04_hookspecs.state import StateChange

_LOOK_S: Final = 0.5
_QUIET_S: Final = 15.0
_FIELDS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}


def event_stream(changes: AsyncIterator[StateChange], is_over: Callable[[], bool]) -> StreamingResponse:
    """Return an answer that goes on until the client leaves or ``is_over`` says so.

    A client that comes back names the last event that it saw, and goes on from there.
    """
    return StreamingResponse(_events(changes, is_over), 200, _FIELDS, "text/event-stream")


async def _events(changes: AsyncIterator[StateChange], is_over: Callable[[], bool]) -> AsyncIterator[bytes]:
    yield b"retry: 1000\n\n"
    quiet = 0.0
    coming: asyncio.Future[Any] = asyncio.ensure_future(_next(changes))
    try:
        while not is_over():
            done, _ = await asyncio.wait([coming], timeout=_LOOK_S)
            if not done:
                quiet += _LOOK_S
                if quiet >= _QUIET_S:  # keeps proxies from thinking that nobody is there
                    quiet = 0.0
                    yield b":\n\n"
                continue
            try:
                change = coming.result()
            except HistoryPruned as error:
                yield b"event: gone\ndata: %b\n\n" % orjson.dumps({"detail": str(error)})
                return
            except ManagerError:  # the client comes back, and is told then what is wrong
                return
            quiet = 0.0
            yield b"id: %d\nevent: change\ndata: %b\n\n" % (change["version"], orjson.dumps(change))
            coming = asyncio.ensure_future(_next(changes))
    finally:
        coming.cancel()
        await asyncio.wait([coming])
        if not coming.cancelled():
            coming.exception()


async def _next(changes: AsyncIterator[StateChange]) -> StateChange:
    return await anext(changes)
