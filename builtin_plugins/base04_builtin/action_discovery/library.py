"""All packs: as they were read last, and as they were last without a fault."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from base04_builtin.action_discovery.definition import PackDefinition
from base04_builtin.action_discovery.faults import FaultLog, fault_order
from base04_builtin.action_discovery.handler import HandlerModules
from base04_builtin.action_discovery.pack import Pack, PackReading, read_definition, read_pack
from base04_builtin.action_discovery.sources import PackFile, Stamp, find_files, stamp_of
from base04_hookspecs.action_discovery import DefinitionFault
from base04_hookspecs.app import ActionPackSource, ActionSource

Stamps = tuple[Stamp | None, ...]


@dataclass(frozen=True, slots=True)
class Shelf:
    """The packs that serve, in no order, and everything that is wrong. ``kept`` names those that are not the newest."""

    packs: Mapping[Hashable, Pack] = field(default_factory=dict)
    faults: Sequence[DefinitionFault] = ()
    kept: frozenset[str] = frozenset()


class Library:
    """Reads packs. Its methods are for one thread at a time."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._files: dict[Path, tuple[Stamps, PackReading]] = {}
        self._shelf = Shelf()

    def read(
        self, sources: Iterable[ActionSource], definitions: Sequence[ActionPackSource], *, anew: bool = True
    ) -> Shelf:
        """Read all packs; unless ``anew``, files that have not changed since they were read are not read again."""
        files, faults = find_files(sources, self._folders)
        modules = HandlerModules()
        before, self._files = self._files, {}
        beside: dict[Path, Stamps] = {}
        for file in files:
            stamps = (stamp_of(file.path), *_beside(file, beside))
            known = None if anew else before.get(file.path)
            reading = known[1] if known is not None and known[0] == stamps else read_pack(file, modules)
            self._files[file.path] = stamps, reading
        readings: dict[Hashable, PackReading] = {path: reading for path, (_, reading) in self._files.items()}
        for number, source in enumerate(definitions):
            readings[source["plugin"], number] = read_definition(source, modules)
        self._shelf = _shelved(readings, faults, self._shelf.packs)
        return self._shelf


def _beside(file: PackFile, known: dict[Path, Stamps]) -> Stamps:
    """Return the stamps of the modules beside a file in a folder: its handlers may be in any of them."""
    if file.package is not None or isinstance(file, PackDefinition):
        return ()
    folder = file.path.parent
    if folder not in known:
        known[folder] = tuple(stamp_of(path) for path in sorted(folder.glob("*.py")))
    return known[folder]


def _shelved(
    readings: Mapping[Hashable, PackReading], faults: Iterable[DefinitionFault], last: Mapping[Hashable, Pack]
) -> Shelf:
    """Choose the packs that serve; ``last`` are those that served until now."""
    refused = _shared_names(readings)
    packs = {key: reading.pack for key, reading in readings.items() if reading.pack is not None and key not in refused}
    taken = {pack.name for pack in packs.values()}
    kept = set()
    for key in readings:
        good = last.get(key)
        if key not in packs and good is not None and good.name not in taken:
            packs[key] = good
            taken.add(good.name)
            kept.add(good.name)
    found = [*faults, *(fault for reading in readings.values() for fault in reading.faults.sorted())]
    found += [fault for log in refused.values() for fault in log.sorted()]
    return Shelf(packs, sorted(found, key=fault_order), frozenset(kept))


def _shared_names(readings: Mapping[Hashable, PackReading]) -> dict[Hashable, FaultLog]:
    """Return what is wrong with packs that have one name: which of them answers would be an accident."""
    by_name: dict[str, list[Hashable]] = {}
    for key, reading in readings.items():
        if reading.name:
            by_name.setdefault(reading.name, []).append(key)
    refused: dict[Hashable, FaultLog] = {}
    for name, sharing in by_name.items():
        if len(sharing) < 2:
            continue
        for key in sharing:
            others = " and ".join(str(readings[other].file) for other in sharing if other != key)
            log = refused[key] = FaultLog(str(readings[key].file))
            log.add(readings[key].position, f"The pack {name!r} is also defined in {others}: give one another name.")
    return refused
