"""Starting what is behind a fake: the provider that the host would choose, without the rest of the host."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from base04.app_manager import AppManager
from base04.errors import StopError
from base04.generation import Running
from base04.lifecycle import start_all, stop_each
from base04.selection import InstanceKey
from base04.testing.fakes.clock import Clock
from base04.testing.fakes.controls import fake_class
from base04.testing.isolation import PluginChoice, isolated_settings, plugin_objects
from base04_hookspecs.manager import Manager

_OF_A_HOST: Final = frozenset({"action_discovery", "module"})
"""The roles that are about the host: their fakes have a whole one behind them."""


class MakeFake:
    """The fixture ``make_fake``: makes fakes of one test, each with managers and a folder of its own."""

    def __init__(
        self, folder: Callable[[], Path], settings: Mapping[str, Mapping[str, Any]], clock: Clock | None = None
    ) -> None:
        self._folder, self._settings, self._clock = folder, settings, clock
        self._open = contextlib.AsyncExitStack()

    async def __call__(
        self,
        role: str,
        settings: Mapping[str, Any] | None = None,
        plugins: Sequence[PluginChoice] = (),
        *,
        folder: Path | None = None,
    ) -> Any:
        """Start the provider of a role, and what it needs, and return a fake in front of it.

        Args:
            role: one of Base04's, or of a plugin's own.
            settings: as below ``managers.<role>``; without them those of the fixture ``fake_settings``.
            plugins: see ``PluginChoice``.
            folder: where it keeps what it keeps; two fakes in one folder see the same database and secrets.
        """
        managers = {**self._settings, **({role: settings} if settings is not None else {})}
        where = folder or self._folder()
        chosen = isolated_settings({"managers": managers}, where, plugins)
        app = AppManager(chosen, plugins=plugin_objects(plugins), only=[role])
        node = app.plan.nodes[InstanceKey(role)]
        if self._clock is not None:
            self._clock.reach()
        behind = dict(await self._open.enter_async_context(_started(app, role)))
        real = behind.pop(role)
        fake: Any = fake_class(_contract(type(real)))(real, node.choice.candidate.provider.capabilities, behind)
        return fake

    async def close(self) -> None:
        """Stop everything.

        Raises:
            StopError: something could not stop.
        """
        await self._open.aclose()


@contextlib.asynccontextmanager
async def _started(app: AppManager, role: str) -> AsyncIterator[Mapping[str, Manager]]:
    """Start the default instance of a role, and yield it with what it needs, by role."""
    if role in _OF_A_HOST:
        async with app:
            yield _by_role(app.generation.running)
        return
    started = await start_all(app.plan, app, app.data_dir)
    try:
        yield _by_role(started.running)
    finally:
        errors = await stop_each(list(started.running.values()))
    if errors:
        raise StopError("\n".join(str(error) for error in errors), errors)


def _by_role(running: Mapping[InstanceKey, Running]) -> dict[str, Manager]:
    return {key.role: item.manager for key, item in running.items() if key == InstanceKey(key.role)}


def _contract(cls: type[Manager]) -> type[Manager]:
    """Return the contract that a manager's class derives from: the first one that names the role."""
    return next(base for base in reversed(cls.__mro__) if issubclass(base, Manager) and "role" in vars(base))
