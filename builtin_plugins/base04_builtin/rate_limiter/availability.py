"""Whether calls can be counted, found out apart from them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Final

import structlog

from base04_hookspecs.errors import ManagerUnavailable, OutcomeUnknown

log = structlog.get_logger()

_PAUSE_S: Final = 0.25


class Availability:
    """After a call could not be counted, no further one tries before a probe could be.

    So an outage costs the callers of its first moment a time-out, and nobody else.

    Args:
        probe: counts something that nobody limits, as calls are counted.
        on_return: called once it can be counted again.
    """

    def __init__(self, probe: Callable[[], Awaitable[None]], on_return: Callable[[], None]) -> None:
        self._probe = probe
        self._on_return = on_return
        self._task: asyncio.Task[None] | None = None
        self.away = False

    def lost(self, error: Exception) -> None:
        """Note that a call could not be counted."""
        if self.away:
            return
        self.away = True
        log.warning("rate limits cannot be counted", error=str(error))
        self._task = asyncio.create_task(
            self._watch(),
            name="rate-limiter-return",
            context=Context(),  # it belongs to no request, whichever begins it
        )

    async def look(self) -> bool:
        """Tell whether it can be counted."""
        try:
            await self._probe()
        except (ManagerUnavailable, OutcomeUnknown):
            return False
        if self.away:
            self.away = False
            log.info("rate limits are counted again")
            self._on_return()
        return True

    async def stop(self) -> None:
        """Look no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _watch(self) -> None:
        while self.away:
            if not await self.look():
                await asyncio.sleep(_PAUSE_S)
