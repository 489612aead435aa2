"""Bring up, in the background, what is not required and was not up at start."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

import structlog

from base04.errors import StartError
from base04.lifecycle import Started, start_all
from base04.resolution import Plan

if TYPE_CHECKING:
    from base04.app_manager import AppManager

_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 30.0

_log = structlog.get_logger()


class Recovery:
    """Tries again, with backoff and jitter; success makes a new generation."""

    def __init__(self, app: AppManager) -> None:
        self._app = app
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, where anything is down."""
        if self._app.generation.down:
            self._task = asyncio.create_task(self._until_all_are_up(), name="recovery")

    async def stop(self) -> None:
        """Give up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _until_all_are_up(self) -> None:
        wait_s = _FIRST_WAIT_S
        while self._app.generation.down:
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
            try:
                if await self._attempt():
                    wait_s = _FIRST_WAIT_S
            except StartError as error:
                _log.warning("a manager is still down", error=str(error))

    async def _attempt(self) -> bool:
        """Start what is down, then anew who depends on what came up, beside those that serve; then move over."""
        current, plan = self._app.generation, self._app.plan
        wanted = current.running.keys() | current.down.keys()
        nodes = {key: node for key, node in plan.nodes.items() if key in wanted}
        partial = Plan(nodes, {key: plan.edges[key] & nodes.keys() for key in nodes}, plan.absent)
        started = await start_all(partial, self._app, self._app.folder.path, reuse=current.running)
        recovered = started.running.keys() - current.running.keys()
        if not recovered:
            return False
        stale = plan.all_dependants(recovered)
        reuse = {key: item for key, item in started.running.items() if key not in stale}
        renewed = await start_all(plan, self._app, self._app.folder.path, reuse=reuse)
        await self._app.adopt(self._app.build(Started(renewed.running, renewed.down)))
        _log.info("managers came up", managers=[str(key) for key in sorted(recovered)])
        return True
