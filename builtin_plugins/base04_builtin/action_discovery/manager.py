"""The provider ``yaml`` of the role ``action_discovery``."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from base04_builtin.action_discovery.catalogue import Catalogue
from base04_builtin.action_discovery.library import Library, Shelf
from base04_builtin.action_discovery.overrides import Overrides
from base04_builtin.action_discovery.settings import WATCH_INTERVAL_S, ActionDiscoverySettings
from base04_builtin.action_discovery.watch import FolderWatch, snapshot
from base04_hookspecs.action_discovery import (
    ActionCatalogue,
    ActionDiscoveryManager,
    ActionInfo,
    ActionListing,
    DefinitionFault,
    DiscoveryReport,
    PackInfo,
)
from base04_hookspecs.app import AppManager
from base04_hookspecs.errors import UnknownAction
from base04_hookspecs.health import HealthReport, health_report


class YamlActionDiscoveryManager(ActionDiscoveryManager):
    """Reads action packs from YAML files of installed packages and of folders, and takes those that plugins define.

    What it knows is one immutable catalogue, exchanged as a whole by each discovery. Files are read and handlers
    imported in a worker thread; handlers are imported at discovery, so that one that is missing is reported then.
    Folders are watched: what changes in them is read at once, with the modules that lie beside. Installed packages
    stay as they are until the host starts again.
    """

    def __init__(self, settings: ActionDiscoverySettings, app: AppManager) -> None:
        self._app = app
        self._folders = tuple(folder.expanduser().absolute() for folder in settings.folders)
        self._watch = FolderWatch(self._folders, self._read_changes, WATCH_INTERVAL_S) if settings.watch else None
        self._library = Library(self._folders)
        self._overrides = Overrides(settings.overrides)
        self._lock = asyncio.Lock()
        self._catalogue = Catalogue()
        self._shelf = Shelf()
        self._faults: list[DefinitionFault] = []

    async def start(self) -> None:
        """Discover all actions. Faults are logged, and do not keep the host from starting."""
        known = await asyncio.to_thread(snapshot, self._folders)
        report = await self.discover_all_actions()
        for fault in report["faults"]:
            _log_fault(fault)
        if self._watch is not None and self._folders:
            self._watch.start(known)

    async def stop(self) -> None:
        """Watch no more."""
        if self._watch is not None:
            await self._watch.stop()

    async def discover_all_actions(self) -> DiscoveryReport:
        """Read all packs and folders anew. A pack with a fault keeps its last good version, where it had one."""
        await self._read(anew=True)
        return {
            "packs": len(self._shelf.packs),
            "actions": len(self._catalogue),
            "faults": _copies(self._faults),
        }

    async def _read(self, *, anew: bool) -> None:
        async with self._lock:
            sources, definitions = self._app.list_action_sources(), self._app.list_action_packs()
            shelf = await asyncio.to_thread(self._library.read, sources, definitions, anew=anew)
            actions = [action for pack in shelf.packs.values() for action in pack.actions]
            self._catalogue = Catalogue(self._overrides.apply(actions))
            self._faults = [*shelf.faults, *self._overrides.faults(actions)]
            self._shelf = shelf

    async def _read_changes(self) -> None:
        before = {tuple(fault.values()) for fault in self._faults}
        await self._read(anew=False)
        for fault in self._faults:
            if tuple(fault.values()) not in before:
                _log_fault(fault)
        kept = sorted(self._shelf.kept)
        structlog.get_logger().info(
            "action folders were read anew",
            actions=len(self._catalogue),
            faults=len(self._faults),
            **({"last_good_version": kept} if kept else {}),
        )

    def catalogue(self) -> ActionCatalogue:
        """Return all actions as of now."""
        return self._catalogue

    async def find_action(self, action_name: str) -> ActionInfo | None:
        """Return what is known of an action; None where there is none."""
        action = self._catalogue.find(action_name)
        return None if action is None else action.info.copy()

    async def validate_action_args(self, action_info: ActionInfo, args: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments with defaults filled, by the action's present definition."""
        name = action_info["name"]
        action = self._catalogue.find(name)
        if action is None:
            raise UnknownAction(
                f"There is no action {name!r} any more.", action=name, matches=self._catalogue.close_matches(name)
            )
        return action.validate(args)

    async def execute_action_logic(self, action_info: ActionInfo, args: Mapping[str, Any]) -> Any:
        """Run an action through the host's pipeline, as the current principal, and return its result."""
        return await self._app.run_action(action_info["name"], args)

    async def list_all_actions(self) -> ActionListing:
        """Return all actions by full name."""
        actions = {action.name: action.info.copy() for action in self._catalogue}
        return {"actions": actions, "total": len(actions)}

    async def list_packs(self) -> dict[str, PackInfo]:
        """Return the packs by name."""
        packs = sorted((pack.info for pack in self._shelf.packs.values()), key=lambda info: info["name"])
        return {info["name"]: copy.deepcopy(info) for info in packs}

    async def get_faults(self) -> list[DefinitionFault]:
        """Return what is wrong with action files as they were last read, ordered by file and line."""
        return _copies(self._faults)

    async def health_check(self) -> HealthReport:
        """Report ``degraded`` while action files have faults."""
        faults, actions, packs = len(self._faults), len(self._catalogue), len(self._shelf.packs)
        details = f"{actions} actions in {packs} packs"
        if faults:
            first = self._faults[0]
            details += f"; {faults} faults in action files, the first in {first['file']}:{first['line']}"
        if self._shelf.kept:
            details += f"; running in their last good version: {', '.join(sorted(self._shelf.kept))}"
        return health_report("degraded" if faults else "healthy", details, errors=faults, packs=packs, actions=actions)


def _copies(faults: Iterable[DefinitionFault]) -> list[DefinitionFault]:
    return [fault.copy() for fault in faults]


def _log_fault(fault: DefinitionFault) -> None:
    structlog.get_logger().warning("action file has a fault", **fault)
