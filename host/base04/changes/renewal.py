"""New instances of managers beside those that serve, and the move over to them."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING

import structlog

from base04.blueprint import Blueprint
from base04.errors import StartError
from base04.generation import Generation, Running
from base04.lifecycle import Started, stop_each
from base04.resolution import Plan, direct_dependencies
from base04.selection import InstanceKey
from base04_hookspecs.errors import ManagerUnavailable

if TYPE_CHECKING:
    from base04.app_manager import AppManager

_log = structlog.get_logger()


class Renewal:
    """Makes the next generation from the current one: fresh instances of some managers and of all who hold them.

    One at a time; the others wait. Where a new instance cannot start, nothing changes.
    """

    def __init__(self, app: AppManager) -> None:
        self._app = app
        self._turn = asyncio.Lock()

    async def renew(self, keys: Iterable[InstanceKey]) -> frozenset[InstanceKey]:
        """Replace running managers, and who depends on them; return all that were replaced.

        Raises:
            StartError: a new instance did not start; those that served go on.
        """
        async with self._turn:
            current = self._current()
            asked = set(keys) & current.running.keys()
            stale = stale_with(self._app.plan, replaced=asked) & current.running.keys()
            if stale:
                await self._replace(stale, Started(dict(current.running), dict(current.down)), [], all_or_none=True)
                _log.info("managers were renewed", managers=[str(key) for key in sorted(stale)])
            return frozenset(stale)

    async def recover(self) -> frozenset[InstanceKey]:
        """Start what is down, and renew who depends on what came up; return what came up."""
        async with self._turn:
            current, plan = self._current(), self._app.plan
            wanted = current.running.keys() | current.down.keys()
            came_up = await self._app.succession.start_managers(plan.part(wanted), reuse=current.running)
            recovered = frozenset(came_up.running.keys() - current.running.keys())
            if recovered:
                fresh = [came_up.running[key] for key in plan.nodes if key in recovered]
                await self._replace(stale_with(plan, up=recovered), came_up, fresh, all_or_none=False)
                _log.info("managers came up", managers=[str(key) for key in sorted(recovered)])
            return recovered

    async def collect_anew(self) -> None:
        """Let the same managers serve with what plugins contribute now."""
        async with self._turn:
            current = self._current()
            generation = self._app.succession.build(Started(dict(current.running), dict(current.down)))
            await self._app.succession.adopt(generation)

    async def move(self, blueprint: Blueprint, renewed: Set[InstanceKey]) -> None:
        """Let another blueprint serve: new instances of ``renewed`` and of what is new, the others as they are.

        Raises:
            StartError: an instance that is required, or that ran before, did not start; those that served go on.
        """
        async with self._turn:
            current = self._current()
            kept = {
                key: dataclasses.replace(item, node=blueprint.plan.nodes[key])
                for key, item in current.running.items()
                if key in blueprint.plan.nodes and key not in renewed
            }
            with self._app.succession.drafting(blueprint):
                started = await self._app.succession.start_managers(blueprint.plan, reuse=kept)
                fresh = [item for key, item in started.running.items() if key not in kept]
                try:
                    if lost := started.down.keys() & current.running.keys():
                        raise StartError(_not_started({key: started.down[key] for key in lost}))
                    generation = self._app.succession.build(started)
                except BaseException:
                    await asyncio.shield(_discard(fresh))
                    raise
            await self._app.succession.adopt(generation, blueprint)

    def _current(self) -> Generation:
        generation = self._app.newest
        if generation is None:
            raise ManagerUnavailable("The host has not started, or has stopped.")
        return generation

    async def _replace(
        self, stale: Set[InstanceKey], base: Started, fresh: list[Running], *, all_or_none: bool
    ) -> None:
        """Start ``stale`` anew and let them serve with the rest of ``base``; stop ``fresh`` ones if that fails."""
        plan = self._app.plan
        try:
            reuse = {key: item for key, item in base.running.items() if key not in stale}
            renewed = await self._app.succession.start_managers(plan.part(base.running), reuse=reuse)
            fresh += [item for key, item in renewed.running.items() if key in stale]
            if all_or_none and renewed.down:
                raise StartError(_not_started(renewed.down))
            generation = self._app.succession.build(Started(renewed.running, {**base.down, **renewed.down}))
            await _discard([item for item in fresh if generation.running.get(item.key) is not item])
        except BaseException:
            await asyncio.shield(_discard(fresh))
            raise
        await self._app.succession.adopt(generation)


def stale_with(
    plan: Plan, *, replaced: Set[InstanceKey] = frozenset(), up: Set[InstanceKey] = frozenset()
) -> set[InstanceKey]:
    """Return ``replaced``, and whoever holds a manager that is to be replaced, or None for one that came up.

    One that came up itself is among them if it was given an instance that is to be replaced.
    """
    stale = set(replaced)
    for key, node in plan.nodes.items():  # dependencies come first
        needs = direct_dependencies(node)
        if needs & stale or (key not in up and needs & up):
            stale.add(key)
    return stale


def _not_started(down: Mapping[InstanceKey, str]) -> str:
    reasons = "; ".join(f"{key}: {reason}" for key, reason in down.items())
    return f"New instances did not start, and the old ones go on. {reasons}"


async def _discard(running: Sequence[Running]) -> None:
    for error in await stop_each(running):
        _log.warning("a manager that never served failed to stop", error=str(error))
