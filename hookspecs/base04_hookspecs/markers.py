"""The markers that plugins and contracts are written with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import pluggy

PROJECT: Final = "base04"
"""The pluggy project name: the attribute that marks hook specifications and implementations carries it."""

hookspec = pluggy.HookspecMarker(PROJECT)
"""Mark a function as the specification of a hook."""

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Mark a function of a plugin as an implementation of a hook."""

AccessRole = Literal["read_write", "read_only", "admin"]
"""What a user of a database instance may do with it."""


@dataclass(frozen=True, slots=True)
class Use:
    """Ask for a named instance of a role in a constructor or an action handler.

    ``Annotated[DatabaseManager, Use("reports", access="read_only")]`` is the read-only view of the instance
    ``reports`` of the role ``database``. ``access`` is for roles whose contract has ``with_access``.
    """

    instance: str = "default"
    access: AccessRole | None = None
