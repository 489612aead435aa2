"""The markers that plugins and contracts are written with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import pluggy

PROJECT: Final = "base04"
"""The pluggy project name: the attribute that marks hook specifications and implementations carries it."""

hookspec = pluggy.HookspecMarker(PROJECT)
"""Mark a function as the specification of a hook."""

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Mark a function of a plugin as an implementation of a hook."""

SINCE: Final = "base04_since"
"""The attribute of a method that says in which version its contract gained it."""

MethodT = TypeVar("MethodT", bound=Callable[..., Any])

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


@dataclass(frozen=True, slots=True)
class Since:
    """Mark what a contract has gained after its version 1.0, with the version in which it came.

    ``@Since("1.1")`` decorates a method; ``Annotated[tuple[str, ...], Since("1.1")]`` annotates an attribute. What is
    marked is never abstract, so that providers of an older version go on: a method has an answer for them, or raises
    ``NotSupported``.
    """

    version: str

    def __call__(self, method: MethodT) -> MethodT:
        """Return the method itself, marked."""
        setattr(method, SINCE, self.version)
        return method
