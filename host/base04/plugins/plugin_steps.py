"""The steps that plugins take at start and at end, and further tries of plugins that were not ready."""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import structlog

from base04.actions.supervision import supervise
from base04.actions.worker_pool import CallTimeout
from base04.plugins import watchdog
from base04.plugins.contributions import Contributions, why_not_ready
from base04.plugins.isolation import described, escapes
from base04_hookspecs.action_discovery import ActionDiscoveryManager
from base04_hookspecs.errors import ManagerError, ManagerUnavailable
from base04_hookspecs.host_hooks import LifecycleStep
from base04_hookspecs.module import ModuleWait

if TYPE_CHECKING:
    from base04.app_manager import AppManager
    from base04.generation import Generation

_PACKS: Final = "action_packs"
_MOST_DOUBLINGS: Final = 4
_JITTER: Final = 0.25
"""How much longer a wait may be at random, as a part of it: plugins of many hosts do not try all at once."""

_log = structlog.get_logger()

Try = Callable[[], Awaitable[str | None]]
"""Tries again, and returns why it is still not ready, None where that is over."""


@dataclass(eq=False, slots=True)
class Wait:
    """A plugin that is not ready: which hook of it, why, how often it was tried, and when it is tried next."""

    plugin: str
    hook: str
    reason: str
    implementation: object
    attempts: int = 1
    next_try: float = field(default_factory=time.monotonic)
    task: asyncio.Task[None] | None = None

    def describe(self) -> ModuleWait:
        """Return it as JSON."""
        seconds = round(max(self.next_try - time.monotonic(), 0.0), 1)
        return {"hook": self.hook, "reason": self.reason, "attempts": self.attempts, "next_try": seconds}


class PluginSteps:
    """Takes ``startup`` and ``shutdown`` steps, each under a timeout; none stops the host.

    A plugin whose step raises ``ManagerUnavailable`` is not ready: that step, and those after it, are tried again in
    the background, until they succeed, the plugin is gone, or the host stops. So is a hook that raised it when it was
    asked for what it contributes: once it answers, a new generation has what it gives. Packs are discovered anew.
    """

    def __init__(self, app: AppManager, collect_anew: Callable[[], Awaitable[None]]) -> None:
        self._app, self._collect_anew = app, collect_anew
        self._begun: dict[str, object] = {}
        self._waits: dict[tuple[str, str], Wait] = {}

    def waits(self, plugin: str) -> list[Wait]:
        """Return what is tried again for a plugin."""
        return [wait for wait in self._waits.values() if wait.plugin == plugin]

    async def start_up(self, generation: Generation) -> None:
        """Take the startup steps of the plugins of a generation that have not taken them yet."""
        for name, steps in groupby(generation.contributions.startup, itemgetter(0)):
            implementation = generation.plugins.get(name)
            if self._begun.get(name, self) is implementation:
                continue
            self._begun[name] = implementation
            await self._go_on(generation.contributions, name, [step for _, step in steps])

    async def shut_down(self, generation: Generation, names: Iterable[str]) -> None:
        """Take the shutdown steps of some plugins of a generation, the last first."""
        leaving = set(names)
        for name, step in reversed(generation.contributions.shutdown):
            if name in leaving:
                await self._take(generation.contributions, "shutdown", name, step)

    def adopt(self, generation: Generation) -> None:
        """Forget plugins that a generation which serves from now on has not, and begin with what is not ready in it."""
        self._begun = {name: it for name, it in self._begun.items() if generation.plugins.get(name) is it}
        not_ready = dict(generation.contributions.not_ready) | self._app.packs_not_ready
        for key, wait in list(self._waits.items()):
            gone = generation.plugins.get(wait.plugin) is not wait.implementation
            if gone or (wait.hook != "startup" and key not in not_ready):
                self._end(key, ready=not gone)
        for (name, hook), reason in not_ready.items():
            if (name, hook) not in self._waits:
                self._wait(name, hook, reason, self._asking(name, hook))

    async def stop(self) -> None:
        """Try no more."""
        waits, self._waits = list(self._waits.values()), {}
        tasks = [wait.task for wait in waits if wait.task is not None and wait.task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def forget(self) -> None:
        """Take every plugin's steps anew at the next start."""
        self._begun.clear()

    # One step

    async def _go_on(self, contributions: Contributions, plugin: str, steps: Sequence[LifecycleStep]) -> None:
        """Take the startup steps of a plugin, in order; those from the first that is not ready are left for later."""
        for place, step in enumerate(steps):
            reason = await self._take(contributions, "startup", plugin, step)
            if reason is not None:
                self._wait(plugin, "startup", reason, self._stepping(contributions, plugin, list(steps[place:])))
                return

    async def _take(self, contributions: Contributions, hook: str, plugin: str, step: LifecycleStep) -> str | None:
        """Take one step, and return why its plugin is not ready, None where it is done or has failed for good."""
        limit = self._app.settings.plugins.step_timeout
        try:
            with watchdog.watched(plugin, hook):
                await supervise(_taken(step, self._app), limit)
        except ManagerUnavailable as error:
            if hook == "startup":
                return str(error)
            raised: BaseException = error
        except CallTimeout as error:
            raised = ManagerError(f"It did not end within the {limit:g} s that plugins.step_timeout allows.")
            raised.__cause__ = error
        except BaseException as error:
            if escapes(error):
                raise
            raised = error
        else:
            contributions.acquit(hook, step)
            return None
        contributions.blame(hook, step, raised)
        _log.error("a lifecycle step of a plugin failed", hook=hook, plugin=plugin, exc_info=raised)
        return None

    # Further tries

    def _wait(self, plugin: str, hook: str, reason: str, again: Try) -> None:
        newest = self._app.newest
        wait = Wait(plugin, hook, reason, newest.plugins.get(plugin) if newest is not None else None)
        self._waits[plugin, hook] = wait
        # In a context of its own: whoever asked for the change that led here may have pinned a generation.
        name, context = f"retry {hook} of {plugin}", Context()
        wait.task = asyncio.create_task(self._try_again(wait, again), name=name, context=context)

    async def _try_again(self, wait: Wait, again: Try) -> None:
        first = self._app.settings.plugins.retry_delay
        told = ""
        while self._waits.get((wait.plugin, wait.hook)) is wait:
            pause = first * 2 ** min(wait.attempts - 1, _MOST_DOUBLINGS)
            pause *= 1 + random.uniform(0, _JITTER)  # noqa: S311 - jitter, not a secret
            wait.next_try = time.monotonic() + pause
            tell = _log.debug if wait.reason == told else _log.warning  # the same again is no news
            told = wait.reason
            seconds = round(pause, 1)
            name, hook = wait.plugin, wait.hook
            tell("a plugin is not ready and is tried again", plugin=name, hook=hook, reason=told, seconds=seconds)
            await asyncio.sleep(pause)
            wait.attempts += 1
            try:
                reason = await again()
            except Exception as error:  # noqa: BLE001 - trying goes on, whatever went wrong this time; it is reported
                _log.exception("a plugin could not be tried again", plugin=name, hook=hook)
                reason = described(error)
            if reason is None:
                self._end((wait.plugin, wait.hook), ready=True)
                return
            wait.reason = reason

    def _end(self, key: tuple[str, str], *, ready: bool) -> None:
        wait = self._waits.pop(key, None)
        if wait is None:
            return
        if ready:
            _log.info("a plugin is ready", plugin=wait.plugin, hook=wait.hook, attempts=wait.attempts)
        if wait.task is not None and wait.task is not asyncio.current_task():
            wait.task.cancel()

    def _stepping(self, contributions: Contributions, plugin: str, steps: list[LifecycleStep]) -> Try:
        async def again() -> str | None:
            while steps:
                reason = await self._take(contributions, "startup", plugin, steps[0])
                if reason is not None:
                    return reason
                del steps[0]
            return None

        return again

    def _asking(self, plugin: str, hook: str) -> Try:
        async def again() -> str | None:
            reason = why_not_ready(self._app.discovery, self._app, plugin, hook)
            if reason is not None:
                return reason
            if hook == _PACKS:
                discovery = self._app.generation.find("action_discovery")
                if isinstance(discovery, ActionDiscoveryManager):
                    await discovery.discover_all_actions()
                return self._app.packs_not_ready.get((plugin, hook))
            await self._collect_anew()
            return dict(self._app.generation.contributions.not_ready).get((plugin, hook))

        return again


async def _taken(step: LifecycleStep, app: AppManager) -> None:
    result: Any = step(app)
    if not inspect.isawaitable(result):
        raise TypeError(f"The step returned {result!r}, which cannot be awaited: write it as an `async def`.")
    await result
