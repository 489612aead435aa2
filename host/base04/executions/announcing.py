"""Telling a user's connections how far an execution is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import structlog

from base04.executions.live import Live
from base04.executions.record import shown
from base04_hookspecs.websocket import WebSocketManager

if TYPE_CHECKING:
    from base04.app_manager import AppManager

EVENT: Final = "execution"

_PAUSE_S: Final = 0.2
"""Progress is told this often at most."""

_log = structlog.get_logger()


class Announcer:
    """Emits executions to the room ``user_<id>`` of whoever asked for them, which is theirs alone."""

    def __init__(self, app: AppManager) -> None:
        self._app = app

    async def emit(self, row: Mapping[str, Any]) -> None:
        """Tell how an execution is; nothing where nobody can be told."""
        newest = self._app.newest
        websocket = newest.find("websocket") if newest is not None else None
        if row["user_id"] is None or not isinstance(websocket, WebSocketManager):
            return
        try:
            await websocket.emit_to_room(f"user_{row['user_id']}", EVENT, shown(row))
        except Exception as error:  # noqa: BLE001 - it goes on, whoever hears of it; it is reported
            _log.warning("an execution cannot be announced", execution=row["id"], error=str(error))

    async def follow(self, live: Live) -> None:
        """Tell of the progress of an execution that runs here, until this is cancelled."""
        while True:
            told = live.progress
            await self.emit({**live.row, "progress": told})
            if live.progress is told:
                await live.changed()
            await asyncio.sleep(_PAUSE_S)
