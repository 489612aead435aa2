"""The settings of the provider ``yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from base04_builtin.action_discovery.fields import is_name, is_permission
from base04_hookspecs.errors import InvalidInput
from base04_hookspecs.rate_limiter import RateLimit
from base04_hookspecs.settings import Duration, ManagerSettings


def _permission(name: str) -> str:
    if not is_permission(name):
        raise ValueError(f"{name!r} is no permission: write dotted words, such as 'users.write'")
    return name


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _limit(text: str) -> str:
    try:
        RateLimit.parse(text)
    except InvalidInput as error:
        raise ValueError(str(error)) from error
    return text.strip()


def _pattern(name: str) -> str:
    pack, dot, action = name.partition(".")
    if not (dot and is_name(pack) and (action == "*" or is_name(action))):
        raise ValueError(f"{name!r} names no action: write 'pack.action', or 'pack.*' for all of a pack")
    return name


class RequiredPermissions(ManagerSettings):
    """Permissions that a caller needs beside those that the pack asks for."""

    permissions: tuple[Annotated[str, AfterValidator(_permission)], ...] = Field(min_length=1)


class ActionOverride(ManagerSettings):
    """What is otherwise with an action than its pack says.

    ``access`` only tightens: an action that needs permissions goes on to need them. ``timeout`` and ``rate_limit``
    take the place of the pack's.
    """

    enabled: bool = True
    access: Literal["authenticated"] | RequiredPermissions | None = None
    timeout: Duration | None = None
    rate_limit: Annotated[tuple[Annotated[str, AfterValidator(_limit)], ...], BeforeValidator(_listed)] | None = None


class ActionDiscoverySettings(ManagerSettings):
    """Where actions come from beside installed packages, and what is otherwise than their packs say.

    ``folders`` hold action files (``*.yaml``, ``*.yml``); a relative one lies in the folder the host was started in.
    With ``watch`` a file that is saved there is read at once. ``overrides`` are by ``pack.action``, or ``pack.*`` for
    all actions of a pack, over which those of a single action go.
    """

    folders: tuple[Path, ...] = ()
    watch: bool = True
    overrides: dict[Annotated[str, AfterValidator(_pattern)], ActionOverride] = Field(default_factory=dict)


WATCH_INTERVAL_S: Final = 0.25
"""How often folders are looked at."""
