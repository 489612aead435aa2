"""What keeps a host of a test away from everything but the test: its folder, its settings, its plugins."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from base04.settings import HostSettings, load_settings
from base04.settings_source import ENV_PREFIX

PluginChoice = str | tuple[str, object]
"""A plugin of a test: the name of an installed one (wildcards too), or a name and the object itself."""


def isolated_settings(given: Mapping[str, Any], folder: Path, plugins: Sequence[PluginChoice] = ()) -> HostSettings:
    """Return settings that come from a test alone: neither ``BASE04_...`` variables nor a ``base04.yaml`` is read.

    The data folder is ``folder``. No plugin takes part but the built-in ones, the installed ones that ``plugins`` or
    the settings name, and those that are given to the host as objects. ``${env:NAME}`` goes on to be what it is.

    Raises:
        SettingsError: with every fault.
    """
    chosen = dict(given.get("plugins", {}))
    allowed = [*chosen.get("allow", ()), *(name for name in plugins if isinstance(name, str))]
    of_plugins = {"autoload": False, **chosen, "allow": allowed}
    settings = {"data_dir": str(folder), **given, "plugins": of_plugins}
    return load_settings(settings, environ=environment_of_tests())


def environment_of_tests() -> dict[str, str]:
    """Return the environment as it is now, without what would be settings of the host."""
    return {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}


def plugin_objects(plugins: Sequence[PluginChoice]) -> list[tuple[str, object]]:
    """Return the plugins that are given as objects."""
    return [plugin for plugin in plugins if not isinstance(plugin, str)]
