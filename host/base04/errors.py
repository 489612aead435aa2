"""The errors of the host itself.

::

    Base04Error
    └── HostError
        ├── SettingsError        base04.yaml or the environment; lists every fault with its place
        ├── SelectionError       no provider, or several, for a role
        ├── ResolutionError      a constructor, a missing role, or a cycle
        ├── StartError           a manager did not start; names manager, provider, plugin and cause
        ├── StopError            what went wrong while stopping, all of it
        └── FolderInUse          another host holds the data folder
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from base04_hookspecs.errors import Base04Error


class HostError(Base04Error):
    """Something that keeps the host from doing what it was told."""


@dataclass(frozen=True, slots=True)
class SettingsFault:
    """One thing that is wrong with the settings: the dotted key, where it stands, and what is wrong."""

    key: str
    place: str
    message: str

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        return f"{where}{self.key}: {self.message}"


class SettingsError(HostError):
    """The settings cannot be used. ``faults`` lists everything that is wrong with them."""

    def __init__(self, faults: Sequence[SettingsFault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class SelectionError(HostError):
    """No provider could be chosen for a role."""


class ResolutionError(HostError):
    """What the chosen providers need cannot be brought into an order."""


class StartError(HostError):
    """A required manager did not start; those already started have been stopped."""


class StopError(HostError):
    """Managers failed to stop. ``errors`` holds what each raised; all others were stopped."""

    def __init__(self, message: str, errors: Sequence[BaseException]) -> None:
        super().__init__(message)
        self.errors = tuple(errors)


class FolderInUse(HostError):
    """Another host holds the data folder."""
