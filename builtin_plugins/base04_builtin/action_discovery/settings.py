"""The settings of the provider ``yaml``."""

from __future__ import annotations

from pathlib import Path

from base04_hookspecs.settings import ManagerSettings


class ActionDiscoverySettings(ManagerSettings):
    """Where actions come from beside installed packages.

    ``folders`` hold action files (``*.yaml``, ``*.yml``); a relative one lies in the folder the host was started in.
    """

    folders: tuple[Path, ...] = ()
