"""Local plugins as modules: imported once, and anew when their files have changed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

Stamp = tuple[tuple[str, int, int], ...]
"""The files of a module, each with its time of change (ns) and its size (bytes)."""


class LocalImports:
    """What was imported from folders of local plugins, with the state of the files then.

    Whoever discovers again passes on what was imported before, so that only what has changed is imported anew. Modules
    that had to make way can be put back.
    """

    def __init__(self, previous: LocalImports | None = None) -> None:
        self.stamps: dict[str, Stamp] = {}
        self._before = dict(previous.stamps) if previous is not None else {}
        self._displaced: dict[str, ModuleType] = {}

    def load(self, module: str, target: Path) -> ModuleType:
        """Import a module; one that was imported before and whose files have changed makes way first."""
        stamp = self.stamps[module] = module_stamp(target)
        if self._before.get(module, stamp) != stamp:
            self._displace(module)
            importlib.invalidate_caches()
        return importlib.import_module(module)

    def put_back(self) -> None:
        """Bring back the modules that had made way: what took their place is not to be used."""
        for module in {name.partition(".")[0] for name in self._displaced}:
            for name in _of(module):
                del sys.modules[name]
        sys.modules.update(self._displaced)
        self._displaced = {}

    def _displace(self, module: str) -> None:
        for name in _of(module):
            self._displaced[name] = old = sys.modules.pop(name)
            compiled = old.__spec__.cached if old.__spec__ is not None else None
            if compiled:  # it is told from the source by whole seconds alone, and a file may be saved twice in one
                Path(compiled).unlink(missing_ok=True)


def _of(module: str) -> list[str]:
    return [name for name in sys.modules if name == module or name.startswith(f"{module}.")]


def module_stamp(target: Path) -> Stamp:
    """Return the state of the Python files of a module: one file, or a folder with all below it."""
    files = sorted(target.rglob("*.py")) if target.is_dir() else [target]
    return tuple((str(file), *found) for file in files if (found := file_stamp(file)) is not None)


def file_stamp(file: str | Path | None) -> tuple[int, int] | None:
    """Return a file's time of change (ns) and its size (bytes), None where there is none."""
    try:
        found = Path(file).stat() if file else None
    except OSError:
        found = None
    if found is None:
        return None
    return found.st_mtime_ns, found.st_size
