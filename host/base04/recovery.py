"""Bring up, in the background, what is not required and was not up at start."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence, Set
from typing import TYPE_CHECKING, Final

import structlog

from base04.errors import StartError
from base04.generation import Running
from base04.lifecycle import Started, start_all, stop_each
from base04.resolution import Plan, direct_dependencies
from base04.selection import InstanceKey

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
            except Exception:  # noqa: BLE001 - trying goes on, whatever went wrong this time; it is reported
                _log.exception("an attempt to bring managers up failed")

    async def _attempt(self) -> bool:
        """Start what is down, then anew who depends on what came up, beside those that serve; then move over."""
        current, plan, folder = self._app.generation, self._app.plan, self._app.folder.path
        wanted = current.running.keys() | current.down.keys()
        came_up = await start_all(plan.part(wanted), self._app, folder, reuse=current.running)
        recovered = came_up.running.keys() - current.running.keys()
        if not recovered:
            return False
        stale = _stale(plan, recovered)
        fresh = [came_up.running[key] for key in plan.nodes if key in recovered]
        try:
            reuse = {key: item for key, item in came_up.running.items() if key not in stale}
            renewed = await start_all(plan.part(came_up.running), self._app, folder, reuse=reuse)
            fresh += [item for key, item in renewed.running.items() if key in stale]
            generation = self._app.build(Started(renewed.running, {**came_up.down, **renewed.down}))
            await _discard([item for item in fresh if generation.running.get(item.key) is not item])
        except BaseException:
            await asyncio.shield(_discard(fresh))
            raise
        await self._app.adopt(generation)
        _log.info("managers came up", managers=[str(key) for key in sorted(recovered)])
        return True


def _stale(plan: Plan, recovered: Set[InstanceKey]) -> set[InstanceKey]:
    """Return who holds a manager that is to be replaced, or None for one that came up.

    One that came up itself is among them if it was given an instance that is to be replaced.
    """
    stale: set[InstanceKey] = set()
    for key, node in plan.nodes.items():  # dependencies come first
        needs = direct_dependencies(node)
        if needs & stale or (key not in recovered and needs & recovered):
            stale.add(key)
    return stale


async def _discard(running: Sequence[Running]) -> None:
    for error in await stop_each(running):
        _log.warning("a manager that never served failed to stop", error=str(error))
