"""Whether this process is in touch with the others, and how it gets back in touch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context
from typing import Final

import structlog

from base04_hookspecs.errors import Base04Error

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0

_log = structlog.get_logger()


class Link:
    """Up until somebody says that the shared store has failed, and again when making up for it has succeeded.

    Args:
        make_up: does what an outage made necessary, and is called again until it does not raise ``Base04Error``. It
            returns False where there is more to make up for already.
        look: is called when the link is up again.
    """

    def __init__(self, make_up: Callable[[], Awaitable[bool]], look: Callable[[], Awaitable[None]]) -> None:
        self.up = True
        self.outages = 0
        self._make_up = make_up
        self._look = look
        self._running = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Make up for failures from now on."""
        self._running = self.up = True

    def fail(self, error: Exception) -> None:
        """Learn that the store has failed."""
        if self.up:
            self.up = False
            self.outages += 1
            _log.warning("websocket rooms are out of touch with other processes", error=str(error))
        if self._task is None and self._running:
            self._task = asyncio.get_running_loop().create_task(
                self._recover(),
                name="websocket recovery",
                context=Context(),  # it belongs to no request, whichever begins it
            )

    async def stop(self) -> None:
        """Give up getting back in touch."""
        self._running = False
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _recover(self) -> None:
        try:
            while not self.up:
                await self._try_again()
                await self._look()
        except Exception:  # noqa: BLE001 - a fault of ours: the next failure of the store begins anew
            _log.exception("websocket recovery failed")
            self.up = True
        finally:
            self._task = None
        _log.info("websocket rooms are in touch with other processes again")

    async def _try_again(self) -> None:
        pause = _FIRST_PAUSE_S
        while not self.up:
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE_S, 2 * pause)
            with suppress(Base04Error):  # it was told once, and is tried again
                self.up = await self._make_up()
