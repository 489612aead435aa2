"""Bring up, in the background, what is not required and was not up at start."""

from __future__ import annotations

import asyncio
import random
from contextvars import Context
from typing import TYPE_CHECKING, Final

import structlog

from base04.changes.renewal import Renewal
from base04.errors import StartError

if TYPE_CHECKING:
    from base04.app_manager import AppManager

_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 30.0

_log = structlog.get_logger()


class Recovery:
    """Tries again, with backoff and jitter; success makes a new generation."""

    def __init__(self, app: AppManager, renewal: Renewal) -> None:
        self._app, self._renewal = app, renewal
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, where anything is down and nobody tries yet."""
        if self._app.generation.down and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(
                self._until_all_are_up(),
                name="recovery",
                context=Context(),  # it belongs to no request, whichever begins it
            )

    async def stop(self) -> None:
        """Give up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _until_all_are_up(self) -> None:
        wait_s = _FIRST_WAIT_S
        while self._app.newest is not None and self._app.newest.down:
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
            try:
                if await self._renewal.recover():
                    wait_s = _FIRST_WAIT_S
            except StartError as error:
                _log.warning("a manager is still down", error=str(error))
            except Exception:  # noqa: BLE001 - trying goes on, whatever went wrong this time; it is reported
                _log.exception("an attempt to bring managers up failed")
