"""The built-in provider of the role ``action_discovery``."""

from __future__ import annotations

from collections.abc import Iterable

from base04_hookspecs.markers import hookimpl
from base04_hookspecs.provider import Provider


@hookimpl
def action_discovery_providers() -> Iterable[Provider]:
    """Offer action packs in YAML files."""
    yield Provider(
        "yaml",
        "base04_builtin.action_discovery.manager:YamlActionDiscoveryManager",
        default=True,
        summary="action packs in YAML files, from installed packages and folders",
    )
