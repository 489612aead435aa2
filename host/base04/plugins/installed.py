"""The entry points of installed distributions, found in one pass over the path."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class InstalledDistribution:
    """What the metadata of a distribution says; ``requires`` are its requirements as they are written there."""

    name: str = ""
    version: str = ""
    requires: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InstalledPoint:
    """An entry point and the distribution that has it."""

    point: importlib.metadata.EntryPoint
    distribution: InstalledDistribution

    @property
    def name(self) -> str:
        """Its name."""
        return self.point.name

    @property
    def value(self) -> str:
        """What it names: ``module`` or ``module:attribute``."""
        return self.point.value

    @property
    def module(self) -> str:
        """The module in that."""
        return self.point.module

    def load(self) -> Any:
        """Import what it names."""
        return self.point.load()


class InstalledPoints:
    """The entry points of all distributions; where two on the path have one name, the first counts.

    Reading the metadata of a distribution costs ten times as much as reading its entry points, so it is read only for
    those that have one of a wanted group, and once.
    """

    def __init__(self) -> None:
        self._points = importlib.metadata.entry_points()
        self._read: dict[int, InstalledDistribution] = {}

    def of(self, group: str) -> list[InstalledPoint]:
        """Return those of a group, in no certain order."""
        return [InstalledPoint(point, self._distribution_of(point.dist)) for point in self._points.select(group=group)]

    def _distribution_of(self, found: importlib.metadata.Distribution | None) -> InstalledDistribution:
        if found is None:
            return InstalledDistribution()
        if id(found) not in self._read:  # they live as long as the entry points do
            metadata = found.metadata
            requires = metadata.get_all("Requires-Dist") or found.requires or ()
            self._read[id(found)] = InstalledDistribution(
                metadata["Name"] or "", metadata["Version"] or "", (*requires,)
            )
        return self._read[id(found)]
