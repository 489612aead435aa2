"""The provider ``yaml`` of the role ``action_discovery``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import structlog

from base04_builtin.action_discovery.catalogue import Catalogue
from base04_builtin.action_discovery.faults import fault_order
from base04_builtin.action_discovery.pack import Pack, PackReading, read_pack
from base04_builtin.action_discovery.settings import ActionDiscoverySettings
from base04_builtin.action_discovery.sources import find_files
from base04_hookspecs.action_discovery import (
    ActionCatalogue,
    ActionDiscoveryManager,
    ActionInfo,
    ActionListing,
    DefinitionFault,
    DiscoveryReport,
)
from base04_hookspecs.app import ActionSource, AppManager
from base04_hookspecs.errors import UnknownAction
from base04_hookspecs.health import HealthReport, health_report


class YamlActionDiscoveryManager(ActionDiscoveryManager):
    """Reads action packs from YAML files of installed packages and of folders.

    What it knows is one immutable catalogue, exchanged as a whole by each discovery. Files are read and handlers
    imported in a worker thread; handlers are imported at discovery, so that one that is missing is reported then.
    Code that was imported stays as it is until the host starts again; the files are read anew each time.
    """

    def __init__(self, settings: ActionDiscoverySettings, app: AppManager) -> None:
        self._app = app
        self._folders = tuple(folder.expanduser().absolute() for folder in settings.folders)
        self._lock = asyncio.Lock()
        self._catalogue = Catalogue()
        self._packs: dict[Path, Pack] = {}
        self._faults: list[DefinitionFault] = []

    async def start(self) -> None:
        """Discover all actions. Faults are logged, and do not keep the host from starting."""
        report = await self.discover_all_actions()
        log = structlog.get_logger()
        for fault in report["faults"]:
            log.warning("action file has a fault", **fault)

    async def discover_all_actions(self) -> DiscoveryReport:
        """Read all packs and folders anew. A pack with a fault keeps its last good version, where it had one."""
        async with self._lock:
            sources = self._app.list_action_sources()
            packs, faults = await asyncio.to_thread(_discover, sources, self._folders, self._packs)
            catalogue = Catalogue(action for pack in packs.values() for action in pack.actions)
            self._packs, self._faults, self._catalogue = packs, faults, catalogue
        return {"packs": len(packs), "actions": len(catalogue), "faults": _copies(faults)}

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

    async def get_faults(self) -> list[DefinitionFault]:
        """Return what is wrong with action files as they were last read, ordered by file and line."""
        return _copies(self._faults)

    async def health_check(self) -> HealthReport:
        """Report ``degraded`` while action files have faults."""
        faults, actions, packs = len(self._faults), len(self._catalogue), len(self._packs)
        details = f"{actions} actions in {packs} packs"
        if faults:
            first = self._faults[0]
            details += f"; {faults} faults in action files, the first in {first['file']}:{first['line']}"
        return health_report("degraded" if faults else "healthy", details, errors=faults, packs=packs, actions=actions)


def _copies(faults: Iterable[DefinitionFault]) -> list[DefinitionFault]:
    return [fault.copy() for fault in faults]


def _discover(
    sources: Iterable[ActionSource], folders: Iterable[Path], last: Mapping[Path, Pack]
) -> tuple[dict[Path, Pack], list[DefinitionFault]]:
    """Read everything; ``last`` are the packs as they last were good, by file."""
    files, faults = find_files(sources, folders)
    readings = [read_pack(file) for file in files]
    _refuse_shared_names(readings)
    packs = {reading.file.path: reading.pack for reading in readings if reading.pack is not None}
    taken = {pack.name for pack in packs.values()}
    for reading in readings:
        path = reading.file.path
        good = last.get(path)
        if path not in packs and good is not None and good.name not in taken:
            packs[path] = good
            taken.add(good.name)
    for reading in readings:
        faults += reading.faults.sorted()
    return packs, sorted(faults, key=fault_order)


def _refuse_shared_names(readings: Iterable[PackReading]) -> None:
    """Refuse packs that have one name: which of them answers would be an accident."""
    by_name: dict[str, list[PackReading]] = {}
    for reading in readings:
        if reading.name:
            by_name.setdefault(reading.name, []).append(reading)
    for name, sharing in by_name.items():
        if len(sharing) < 2:
            continue
        for reading in sharing:
            others = " and ".join(os.fspath(other.file.path) for other in sharing if other is not reading)
            reading.faults.add(
                reading.position, f"The pack {name!r} is also defined in {others}: give one another name."
            )
            reading.pack = None
