"""Finding action files, without importing what they name."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from base04_builtin.action_discovery.faults import START, FaultLog
from base04_hookspecs.action_discovery import DefinitionFault
from base04_hookspecs.app import ActionSource

SUFFIXES = (".yaml", ".yml")

Stamp = tuple[int, int, int]
"""What changes when a file is saved: its time, its size, and which file it is."""


def stamp_of(path: Path) -> Stamp | None:
    """Return the stamp of a file; None where there is none."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino


@dataclass(frozen=True, slots=True)
class PackFile:
    """One action file. ``package`` is the installed package that holds it, None for one in a folder."""

    path: Path
    package: str | None = None

    def __str__(self) -> str:
        return str(self.path)


def find_files(
    packages: Iterable[ActionSource], folders: Iterable[Path]
) -> tuple[list[PackFile], list[DefinitionFault]]:
    """Return the action files of packages and folders, each once, and what is wrong with where they should be."""
    found: dict[Path, PackFile] = {}
    faults: list[DefinitionFault] = []
    for source in packages:
        log = FaultLog(source["package"])
        for file in _files_of_package(source, log):
            found.setdefault(file.path.resolve(), file)
        faults += log.sorted()
    for folder in folders:
        log = FaultLog(str(folder))
        for path in _action_files(folder, log):
            found.setdefault(path.resolve(), PackFile(path))
        faults += log.sorted()
    return list(found.values()), faults


def _files_of_package(source: ActionSource, log: FaultLog) -> Iterator[PackFile]:
    package = source["package"]
    where = f"the entry point {source['name']!r} of {source['distribution'] or 'an unknown distribution'}"
    try:
        spec = importlib.util.find_spec(package)
    except Exception as error:  # noqa: BLE001 - a parent package is imported, which may raise anything
        log.add(START, f"The package {package!r}, which {where} names, cannot be found: {error}.")
        return
    if spec is None or spec.submodule_search_locations is None:
        log.add(START, f"There is no package {package!r}, which {where} names.")
        return
    files = [path for folder in spec.submodule_search_locations for path in _action_files(Path(folder), log)]
    if not files and not log:
        log.add(START, f"The package {package!r}, which {where} names, holds no action files (*.yaml, *.yml).")
    for path in files:
        yield PackFile(path, package)


def _action_files(folder: Path, log: FaultLog) -> list[Path]:
    try:
        return sorted(
            path
            for path in folder.iterdir()
            if path.suffix in SUFFIXES and not path.name.startswith(".") and path.is_file()
        )
    except OSError as error:
        log.add(START, f"The folder {str(folder)!r} cannot be read: {error.strerror}.")
        return []
