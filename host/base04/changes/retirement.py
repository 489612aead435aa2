"""Stop what a generation held that serves no more."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING

import structlog

from base04.generation import Generation
from base04.lifecycle import stop_each, within
from base04_hookspecs.errors import NotSupported

if TYPE_CHECKING:
    from base04.app_manager import AppManager

_log = structlog.get_logger()


class Retirement:
    """Waits, in the background, until nobody pins a previous generation, then stops what only that one held.

    One generation after the other, in the order in which they served: what an older one shares with a newer one is
    stopped with the newer. Plugins that are new take their ``startup`` steps, and those that are gone their
    ``shutdown`` steps.
    """

    def __init__(self, app: AppManager) -> None:
        self._app = app
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, previous: Generation, current: Generation) -> None:
        """Retire a generation that another one has just taken over from."""
        for step in (self._start_plugins(current), self._retire(previous, current)):
            # In a context of its own: whoever asked for the change has pinned the previous generation, perhaps.
            task = asyncio.create_task(step, name=f"retire generation {previous.number}", context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Wait no longer; what was not stopped is left to whoever stops everything."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _start_plugins(self, current: Generation) -> None:
        await self._app.steps.start_up(current)

    async def _retire(self, previous: Generation, current: Generation) -> None:
        async with self._turn:
            await previous.unpinned(self._app.settings.server.drain_timeout)
            leaving = [name for name in previous.plugins if _is_new(name, previous, current)]
            with previous.pin():  # what the plugin itself has brought is up there, and nowhere else
                await self._app.steps.shut_down(previous, leaving)
            for item in reversed(
                self._app.succession.retired(current)
            ):  # one by one: a cancellation leaves the rest to others
                if item.manager in _managers(previous):
                    self._app.succession.forget(item)
                    for error in await stop_each([item]):
                        _log.error("a replaced manager failed to stop", error=str(error))


async def hand_over(previous: Generation, current: Generation) -> None:
    """Let new instances take on what others have registered with those whose place they take."""
    for key, item in current.running.items():
        before = previous.running.get(key)
        if before is None or before.manager is item.manager:
            continue
        try:
            await within(item.manager.take_over(before.manager))
        except NotSupported:
            _log.warning("a new instance does not take on what was registered, its provider cannot", manager=str(key))
        except Exception:  # noqa: BLE001 - what cannot be taken on never keeps the change from happening; it is reported
            _log.exception("a new instance did not take on what was registered", manager=str(key))


def _is_new(plugin: str, here: Generation, there: Generation) -> bool:
    """Tell whether a plugin is part of one generation and not, or as another object, of the other."""
    return here.plugins.get(plugin) is not there.plugins.get(plugin)


def _managers(generation: Generation) -> list[object]:
    return [item.manager for item in generation.running.values()]
