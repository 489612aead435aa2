"""Changes while the host runs: settings read anew, plugins switched on and off."""

from __future__ import annotations

import asyncio
import difflib
import importlib
from collections.abc import Callable, Iterable, Set
from typing import TYPE_CHECKING, Final

import structlog

from base04.blueprint import Blueprint
from base04.changes.differences import Differences, compare
from base04.changes.renewal import Renewal
from base04.errors import HostError
from base04.plugins.plugin import Plugin
from base04.resolution import Plan
from base04.selection import InstanceKey
from base04.settings import HostSettings
from base04_hookspecs.action_discovery import ActionDiscoveryManager
from base04_hookspecs.app import ReloadReport
from base04_hookspecs.errors import Base04Error, Conflict, ManagerUnavailable, NotFound
from base04_hookspecs.roles import ROLES

if TYPE_CHECKING:
    from base04.app_manager import AppManager

_ACTIONS: Final = InstanceKey("action_discovery")

_log = structlog.get_logger()


class Changeover:
    """Draws up what the host is to be, compares it with what it is, and moves over; a fault on the way changes nothing.

    One change at a time; the others wait.
    """

    def __init__(self, app: AppManager, renewal: Renewal) -> None:
        self._app, self._renewal = app, renewal
        self._turn = asyncio.Lock()

    async def reload(self, *, dry_run: bool = False, renew: str | None = None) -> ReloadReport:
        """Read settings, plugins and packs anew; ``renew`` names a plugin whose managers are renewed in any case."""
        async with self._turn:
            current = self._running()
            return await self._change(
                lambda: current.following(settings=current.settings.read_again()),
                dry_run=dry_run,
                renew=renew,
                read_files=True,
            )

    async def renew(self, name: str) -> bool:
        """Reload, and renew what a plugin provides."""
        self._find(name)
        await self.reload(renew=name)
        return True

    async def enable(self, name: str) -> bool:
        """Let a plugin take part."""
        async with self._turn:
            plugin = self._find(name)
            if plugin.status == "enabled":
                return False
            if plugin.status == "denied":
                raise Conflict(f"The plugin {name!r} is left out: {plugin.reason}. Change that, then reload.")
            await self._switch(self._running().disabled - {name})
            return True

    async def disable(self, name: str, *, swap: bool) -> bool:
        """Take a plugin out; what it provides must have somebody else to provide it."""
        async with self._turn:
            plugin = self._find(name)
            if plugin.status in ("disabled", "denied"):
                return False
            provided = self._provided_by(name) - self._own_to(name)
            if provided and not swap:
                raise Conflict(
                    f"The plugin {name!r} provides {_needed(provided, self._app.plan)}. Disable it with `swap` "
                    "(--swap) to let another provider take over."
                )
            await self._switch(self._running().disabled | {name}, needed=provided)
            return True

    async def follow(self, settings: HostSettings, disabled: frozenset[str], renew: str | None) -> None:
        """Become what another process of this host has become, and made sure that it can serve."""
        async with self._turn:
            current = self._running()
            await self._change(
                lambda: current.following(settings=settings, disabled=disabled), renew=renew, read_files=True
            )

    async def _switch(self, disabled: frozenset[str], needed: Set[InstanceKey] = frozenset()) -> None:
        current = self._running()
        await asyncio.to_thread(self._app.choices.write, disabled)
        try:
            await self._change(lambda: current.following(disabled=disabled), needed=needed)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(self._app.choices.write, current.disabled))
            raise

    async def _change(
        self,
        draw: Callable[[], Blueprint],
        *,
        dry_run: bool = False,
        renew: str | None = None,
        needed: Set[InstanceKey] = frozenset(),
        read_files: bool = False,
    ) -> ReloadReport:
        current = self._running()
        forced = self._provided_by(renew) if renew is not None else ()
        importlib.invalidate_caches()
        draft: Blueprint | None = None
        moved = False
        try:
            # In threads: they read files and import modules, and requests go on meanwhile.
            draft = await asyncio.to_thread(draw)
            found = await asyncio.to_thread(compare, current, draft, forced)
            self._app.admit(draft)
            _refuse_losses(found, draft, needed, self._app.plan)
            if not dry_run:
                _keep_what_runs(current, draft)
                await self._renewal.move(draft, found.renewed_keys)
                moved = True
                if read_files and _ACTIONS not in (*found.renewed, *found.started):
                    await self._read_action_files()
                _log.info("the host has changed", **_told(found))
        except HostError as error:
            raise Conflict(f"Nothing has changed: {error}") from error
        finally:
            if draft is not None and not moved:
                draft.discovery.imports.put_back()
        return found.report(applied=moved, generation=self._app.generation.number)

    async def _read_action_files(self) -> None:
        """Have a manager of actions that goes on read its files; one that is new has done so."""
        newest = self._app.newest
        manager = newest.find(_ACTIONS.role) if newest is not None else None
        try:
            if isinstance(manager, ActionDiscoveryManager):
                await manager.discover_all_actions()
        except Base04Error as error:  # its files are what they are, and the host has changed
            _log.error("action files could not be read anew", error=str(error))

    def _running(self) -> Blueprint:
        if self._app.newest is None:
            raise ManagerUnavailable("The host has not started, or has stopped.")
        return self._app.blueprint

    def _find(self, name: str) -> Plugin:
        plugins = self._app.discovery.plugins
        if name in plugins:
            return plugins[name]
        close = difflib.get_close_matches(name, plugins, 3, 0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"there are {', '.join(plugins)}."
        raise NotFound(f"There is no plugin {name!r}; {hint}")

    def _provided_by(self, plugin: str) -> set[InstanceKey]:
        newest = self._app.newest
        running = newest.running.values() if newest is not None else ()
        return {item.key for item in running if item.node.choice.candidate.plugin.name == plugin}

    def _own_to(self, plugin: str) -> set[InstanceKey]:
        """Return what a plugin provides that goes with it: of roles of its own, which nobody else offers or needs."""
        provided, plan = self._provided_by(plugin), self._app.plan
        offered = self._app.discovery.candidates
        return {
            key
            for key in provided
            if key.role not in ROLES
            and all(candidate.plugin.name == plugin for candidate in offered.get(key.role, ()))
            and provided.issuperset(plan.dependants(key))
        }


def _refuse_losses(found: Differences, draft: Blueprint, needed: Set[InstanceKey], plan: Plan) -> None:
    if found.broken:
        plugins = draft.discovery.plugins
        raise HostError("; ".join(f"the plugin {name!r} has failed: {plugins[name].reason}" for name in found.broken))
    lost = needed - draft.plan.nodes.keys()
    if lost:
        raise HostError(f"nobody else provides {_needed(lost, plan)}.")


def _keep_what_runs(current: Blueprint, draft: Blueprint) -> None:
    """Go on naming the version of a distribution that was imported, where another one is on disk by now."""
    before = current.discovery.plugins
    for name, plugin in draft.discovery.plugins.items():
        known = before.get(name)
        if known is None or plugin.source not in ("installed", "builtin") or plugin.implementation is None:
            continue
        if plugin.implementation is known.implementation:
            plugin.version, plugin.stamp = known.version, known.stamp


def _needed(keys: Iterable[InstanceKey], plan: Plan) -> str:
    """Say which managers are meant, and who depends on each."""
    told = []
    for key in sorted(keys):
        dependants = ", ".join(sorted(str(other) for other in plan.dependants(key)))
        told.append(f"{key} (needed by {dependants})" if dependants else str(key))
    return " and ".join(told)


def _told(found: Differences) -> dict[str, object]:
    report = found.report(applied=True, generation=0)
    return {name: value for name, value in report.items() if value and name not in ("applied", "generation")}
