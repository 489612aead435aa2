"""The plain fields of an action: what is allowed in them, and how they are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from base04_builtin.action_discovery.document import DocumentPath
from base04_builtin.action_discovery.faults import FaultLog, Position, nearest, unknown_key
from base04_hookspecs.errors import InvalidInput
from base04_hookspecs.rate_limiter import RateLimit
from base04_hookspecs.settings import parse_duration

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}\Z")
_VERSION: Final = re.compile(r"[0-9]+(\.[0-9A-Za-z]+)*([-+][0-9A-Za-z.+-]+)?\Z")
_PERMISSION: Final = re.compile(r"(\*|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(\.\*)?)\Z")
_MAX_TEXT: Final = 10_000

AccessKind = Literal["public", "authenticated", "permissions"]


class Places(Protocol):
    """Knows where everything in a document stands."""

    def key(self, path: DocumentPath) -> Position:
        """Return where the last key of a path stands."""

    def value(self, path: DocumentPath) -> Position:
        """Return where the value at a path stands."""


@dataclass(frozen=True, slots=True)
class Place:
    """One mapping of a document, and where faults in it go."""

    document: Places
    faults: FaultLog
    path: DocumentPath
    data: dict[str, Any]

    def at(self, *path: str | int) -> DocumentPath:
        """Return the path of something within."""
        return (*self.path, *path)

    def fault(self, key: str, message: str) -> None:
        """Note what is wrong with the value of a key."""
        self.faults.add(self.document.value(self.at(key)), message)

    def refuse_unknown(self, known: Sequence[str]) -> None:
        """Note every key that is not known."""
        for key in self.data:
            if key not in known:
                self.faults.add(self.document.key(self.at(key)), unknown_key(key, known))

    def require(self, *keys: str) -> None:
        """Note every key that is missing."""
        for key in keys:
            if key not in self.data:
                self.faults.add(self.document.key(self.path), f"The key {key!r} is missing.")


def read_text(place: Place, key: str) -> str:
    """Return a text, empty where there is none."""
    value = place.data.get(key, "")
    if not isinstance(value, str):
        place.fault(key, f"{key!r} must be a text: put it in quotes.")
    elif len(value) > _MAX_TEXT:
        place.fault(key, f"{key!r} is longer than {_MAX_TEXT} characters.")
    else:
        return value.strip()
    return ""


def read_name(place: Place, key: str) -> str:
    """Return the name of a pack; empty where it cannot be used."""
    value = place.data.get(key)
    if isinstance(value, str) and _NAME.match(value):
        return value
    if key in place.data:
        place.fault(key, f"The name {value!r} cannot be used: {NAME_RULE}")
    return ""


PERMISSION_RULE: Final = "write dotted words, such as 'users.write'."
NAME_RULE: Final = "write up to 63 letters, digits, '-' and '_', beginning with a letter."


def is_name(name: str) -> bool:
    """Tell whether a name can be that of a pack or an action."""
    return _NAME.match(name) is not None


def is_permission(name: str) -> bool:
    """Tell whether a name can be that of a permission."""
    return _PERMISSION.match(name) is not None


def read_version(place: Place) -> str:
    """Return the version of a pack; empty where it cannot be used."""
    value = place.data.get("version")
    if isinstance(value, str) and _VERSION.match(value):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        place.fault("version", f"The version {value!r} is read as a number: put it in quotes, or write three parts.")
    elif "version" in place.data:
        place.fault("version", f"The version {value!r} cannot be used: write for example '1.0.0'.")
    return ""


def read_timeout(place: Place) -> float | None:
    """Return the timeout in seconds, None where there is none."""
    if "timeout" not in place.data:
        return None
    try:
        return parse_duration(place.data["timeout"])
    except ValueError as error:
        place.fault("timeout", f"The timeout cannot be used: {error}.")
        return None


def read_limits(place: Place) -> tuple[list[str], tuple[RateLimit, ...]]:
    """Return the rate limits, as they are written and as they are read."""
    if "rate_limit" not in place.data:
        return [], ()
    value = place.data["rate_limit"]
    written = value if isinstance(value, list) else [value]
    texts, limits = [], []
    for index, text in enumerate(written):
        path = place.at("rate_limit", index) if isinstance(value, list) else place.at("rate_limit")
        if not isinstance(text, str):
            place.faults.add(
                place.document.value(path), f"{text!r} is not a rate limit: write for example '20/minute'."
            )
            continue
        try:
            limits.append(RateLimit.parse(text))
        except InvalidInput as error:
            place.faults.add(place.document.value(path), str(error))
        else:
            texts.append(text.strip())
    return texts, tuple(limits)


def read_access(place: Place) -> tuple[AccessKind, list[str]]:
    """Return who may run the action, and the permissions that are needed; ``authenticated`` is the default."""
    value = place.data.get("access", "authenticated")
    if value == "public":
        return "public", []
    if value == "authenticated":
        return "authenticated", []
    if isinstance(value, dict):
        return "permissions", _permissions(place, value)
    hint = nearest(value, ("public", "authenticated", "permissions")) if isinstance(value, str) else "."
    place.fault(
        "access",
        f"The access {value!r} is not known{hint} Write 'public', 'authenticated', or '{{permissions: [...]}}'.",
    )
    return "permissions", []


def _permissions(place: Place, access: dict[str, Any]) -> list[str]:
    inner = Place(place.document, place.faults, place.at("access"), access)
    inner.refuse_unknown(("permissions",))
    inner.require("permissions")
    names = access.get("permissions", [])
    if "permissions" in access and (not isinstance(names, list) or not names):
        inner.fault("permissions", "'permissions' must be a list with at least one permission.")
        return []
    for index, name in enumerate(names):
        if not isinstance(name, str) or not is_permission(name):
            inner.faults.add(
                inner.document.value(inner.at("permissions", index)),
                f"The permission {name!r} cannot be used: {PERMISSION_RULE}",
            )
    return [name for name in names if isinstance(name, str)]


def read_names(place: Place, key: str, check: Callable[[str], str | None]) -> list[str]:
    """Return a list of texts; ``check`` returns what is wrong with one."""
    value = place.data.get(key, [])
    if not isinstance(value, list):
        place.fault(key, f"{key!r} must be a list.")
        return []
    for index, name in enumerate(value):
        problem = check(name) if isinstance(name, str) else f"{name!r} is not a text."
        if problem:
            place.faults.add(place.document.value(place.at(key, index)), problem)
    return [name for name in value if isinstance(name, str)]
