"""Who wants to know when a secret has changed."""

from __future__ import annotations

import asyncio

import structlog

from base04_builtin.callbacks import call, is_cancellation, qualified_name
from base04_hookspecs.vault import RotationCallback

log = structlog.get_logger()


class Subscribers:
    """Callbacks by path, in the order in which they were added."""

    def __init__(self) -> None:
        self._callbacks: dict[str, list[RotationCallback]] = {}

    def add(self, path: str, callback: RotationCallback) -> None:
        """Call back for a path from now on; adding the same callback again changes nothing."""
        callbacks = self._callbacks.setdefault(path, [])
        if callback not in callbacks:
            callbacks.append(callback)

    async def announce(self, path: str) -> None:
        """Call everybody back, one after the other; one that fails is reported and stops nobody."""
        for callback in tuple(self._callbacks.get(path, ())):
            try:
                await call(callback, path)
            except (Exception, asyncio.CancelledError) as error:
                if is_cancellation(error):
                    raise
                log.exception("rotation callback failed", path=path, callback=qualified_name(callback))
