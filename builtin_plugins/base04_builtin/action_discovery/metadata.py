"""What a pack says of itself beside its name: what it needs, and what it brings."""

from __future__ import annotations

import functools
import importlib.metadata
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement

from base04_builtin.action_discovery.fields import PERMISSION_RULE, Place, is_permission

_HOST: Final = "base04"


@functools.cache
def _running_version() -> str:
    return importlib.metadata.version(_HOST)


def read_requirement(place: Place) -> str:
    """Return what versions of Base04 the pack needs (``base04>=0.1``), empty where it does not say."""
    if "requires" not in place.data:
        return ""
    written = place.data["requires"]
    try:
        requirement = Requirement(written) if isinstance(written, str) else None
    except InvalidRequirement:
        requirement = None
    if requirement is None or requirement.name != _HOST or requirement.url or requirement.extras or requirement.marker:
        place.fault("requires", f"The requirement {written!r} cannot be read: write for example '{_HOST}>=0.1'.")
        return ""
    if not requirement.specifier.contains(_running_version(), prereleases=True):
        place.fault("requires", f"The pack needs {written}, and this is {_HOST} {_running_version()}.")
    return str(written).strip()


def read_permissions(place: Place) -> dict[str, str]:
    """Return the permissions that the pack introduces, each with what it lets one do."""
    value = place.data.get("permissions", {})
    if not isinstance(value, dict):
        place.fault("permissions", "'permissions' must be a mapping from permissions to what they let one do.")
        return {}
    inner = Place(place.document, place.faults, place.at("permissions"), value)
    for name, text in value.items():
        if not is_permission(name) or name.endswith("*"):
            place.faults.add(
                place.document.key(inner.at(name)), f"The permission {name!r} cannot be introduced: {PERMISSION_RULE}"
            )
        if not isinstance(text, str):
            inner.fault(name, f"What {name!r} lets one do must be a text: put it in quotes.")
    return {name: text for name, text in value.items() if isinstance(text, str)}
