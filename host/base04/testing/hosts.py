"""Hosts in the process of a test: started when it asks, stopped whatever happens, and nothing of them left."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from base04.app_manager import AppManager
from base04.errors import StopError
from base04.testing import proxy
from base04.testing.fakes.clock import Clock
from base04.testing.isolation import PluginChoice, isolated_settings, plugin_objects

GRACE_S: Final = 5.0
"""How long tasks that were told to end may take to do so."""

_starting: contextvars.ContextVar[object] = contextvars.ContextVar("base04_testing_host", default=None)


class WatchedHost:
    """A host that knows which tasks are its own, so that those that outlive it can be named."""

    def __init__(self, app: AppManager, clock: Clock | None = None) -> None:
        self.app, self._clock = app, clock
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> AppManager:
        """Start it.

        Raises:
            HostError, ManagerError: as ``AppManager.start`` does.
        """
        if self._clock is not None and self.app.plan:  # imports the providers, whose time it is
            self._clock.reach()
        before = asyncio.all_tasks()
        context = contextvars.copy_context()
        context.run(_starting.set, self)
        starting = asyncio.create_task(self.app.start(), context=context)
        try:
            await starting
        except asyncio.CancelledError:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            raise
        self._tasks = asyncio.all_tasks() - before
        return self.app

    async def stop(self) -> None:
        """Stop it.

        Raises:
            StopError: a manager failed to stop, or tasks that began with the host go on without it.
        """
        await self.app.stop()
        left = await self._left()
        if left:
            told = "\n".join(f"  {_described(task)}" for task in left)
            raise StopError(
                f"The host has stopped, and tasks that began with it still run:\n{told}\n"
                "Whoever starts a task ends it: a manager in `stop`, a plugin in a step of its hook `shutdown`.",
                (),
            )

    async def _left(self) -> list[asyncio.Task[Any]]:
        """Return the tasks of the host that do not end; they are cancelled, so that they trouble no other test."""
        running = [task for task in self._known() if not task.done()]
        if running:
            await asyncio.wait(running, timeout=GRACE_S)
        left = [task for task in running if not task.done()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return left

    def _known(self) -> set[asyncio.Task[Any]]:
        """Return the tasks that descend from the start; before Python 3.12 those that were there at its end."""
        if hasattr(asyncio.Task, "get_context"):
            return {task for task in asyncio.all_tasks() if _context_of(task).get(_starting) is self}
        return {task for task in self._tasks if _file_of(task) != proxy.__file__}


def _described(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    name = getattr(coroutine, "__qualname__", repr(coroutine))
    return f"{name} of {_file_of(task)} (task {task.get_name()!r})"


def _context_of(task: asyncio.Task[Any]) -> contextvars.Context:
    context: contextvars.Context = getattr(task, "get_context")()  # noqa: B009 - not there before Python 3.12
    return context


def _file_of(task: asyncio.Task[Any]) -> str:
    code = getattr(task.get_coro(), "cr_code", None)
    return code.co_filename if code is not None else "an unknown file"


class Opening:
    """A host to be: ``await`` starts it until the end of the test, ``async with`` until the end of the block."""

    def __init__(self, host: WatchedHost, keep: Callable[[WatchedHost], None]) -> None:
        self._host, self._keep = host, keep

    def __await__(self) -> Generator[Any, Any, AppManager]:
        return self._start().__await__()

    async def _start(self) -> AppManager:
        app = await self._host.start()
        self._keep(self._host)
        return app

    async def __aenter__(self) -> AppManager:
        return await self._host.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._host.stop()


class MakeApp:
    """The fixture ``make_app``: makes hosts of one test, each with a data folder of its own."""

    def __init__(
        self,
        folder: Callable[[], Path],
        settings: Mapping[str, Any],
        plugins: Sequence[PluginChoice],
        clock: Clock | None = None,
    ) -> None:
        self._folder, self._settings, self._plugins, self._clock = folder, settings, plugins, clock
        self._hosts: list[WatchedHost] = []

    def __call__(
        self,
        settings: Mapping[str, Any] | None = None,
        plugins: Sequence[PluginChoice] | None = None,
        *,
        only: Sequence[str] | None = None,
    ) -> Opening:
        """Make a host; ``await`` it, or enter it with ``async with``.

        Args:
            settings: as in ``base04.yaml``; without them those of the fixture ``app_settings``.
            plugins: see ``PluginChoice``; without them those of the fixture ``app_plugins``.
            only: the roles to start, with what they need; all of them without.

        Raises:
            SettingsError: with every fault.
        """
        settings = self._settings if settings is None else settings
        plugins = self._plugins if plugins is None else plugins
        chosen = isolated_settings(settings, self._folder(), plugins)
        host = WatchedHost(AppManager(chosen, plugins=plugin_objects(plugins), only=only), self._clock)
        return Opening(host, self._hosts.append)

    async def close(self) -> None:
        """Stop all hosts that were awaited, the last one first, whatever becomes of the others.

        Raises:
            StopError: some could not stop cleanly.
        """
        errors: list[StopError] = []
        while self._hosts:
            try:
                await self._hosts.pop().stop()
            except StopError as error:
                errors.append(error)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise StopError("\n".join(str(error) for error in errors), errors)
