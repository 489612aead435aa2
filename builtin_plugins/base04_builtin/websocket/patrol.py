"""Closing connections whose token does not hold any more, those included that send nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from base04_builtin.websocket.authentication import Authentication
from base04_builtin.websocket.codes import ConnectionEnds
from base04_builtin.websocket.connection import describe
from base04_builtin.websocket.identified import Identified, Sessions
from base04_hookspecs.errors import ManagerUnavailable, NotSupported
from base04_hookspecs.jwt import JWTManager

_INTERVAL_S: Final = 0.25
_ROUND: Final = 40
"""In how many intervals every connection is asked for where the ``jwt`` role tells of revocations by itself."""

_TURN: Final = 200

_log = structlog.get_logger()


class Patrol:
    """Asks for the tokens of all connections when something was revoked, and for a part of them now and then.

    The part makes the ``jwt`` role look for what it was not told. Where it tells nothing by itself, all connections
    are asked for in each interval.
    """

    def __init__(self, jwt: JWTManager, authentication: Authentication, registry: Sessions, interval: float) -> None:
        self._jwt = jwt
        self._authentication = authentication
        self._registry = registry
        self._interval = min(interval or _INTERVAL_S, _INTERVAL_S)
        self._wake = asyncio.Event()
        self._end_watch: Callable[[], None] | None = None
        self._position = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        with contextlib.suppress(NotSupported):  # as None: nothing is told
            self._end_watch = self._jwt.watch_revocations(self._wake.set)
        self._task = asyncio.get_running_loop().create_task(self._go_round(), name="websocket patrol")

    async def stop(self) -> None:
        """End."""
        if self._end_watch is not None:
            self._end_watch()
            self._end_watch = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _go_round(self) -> None:
        while True:
            told = await self._waited()
            sessions = self._registry.sessions()
            try:
                await self._ask(sessions if told or self._end_watch is None else self._part(sessions))
            except ManagerUnavailable as exc:
                _log.warning("websocket tokens cannot be checked for revocation", error=str(exc))
                if told:
                    await asyncio.sleep(self._interval)
                    self._wake.set()
            except Exception:  # noqa: BLE001 - logged, and the next round tries again
                _log.exception("websocket patrol failed")

    async def _waited(self) -> bool:
        """Return when it is time to ask, and whether it is because something was revoked."""
        try:
            async with asyncio.timeout(self._interval):
                await self._wake.wait()
        except TimeoutError:
            return False
        self._wake.clear()
        return True

    def _part(self, sessions: Sequence[Identified]) -> Sequence[Identified]:
        size = -(-len(sessions) // _ROUND)
        begin = self._position if self._position < len(sessions) else 0
        self._position = begin + size
        return sessions[begin : begin + size]

    async def _ask(self, connections: Sequence[Identified]) -> None:
        for number, connection in enumerate(connections, 1):
            if not connection.live:
                continue
            try:
                await self._authentication.ask(connection)
            except ConnectionEnds as end:
                _log.info("websocket closed", code=int(end.code), reason=end.reason, **describe(connection))
                connection.close(end.code, end.reason)
            if number % _TURN == 0:
                await asyncio.sleep(0)
