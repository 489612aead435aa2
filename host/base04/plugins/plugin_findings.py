"""What ``base04 doctor`` finds with plugins: their versions, their parts, and the settings that name them."""

from __future__ import annotations

import fnmatch
import importlib.metadata
from collections.abc import Iterator
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement

from base04.app_manager import AppManager
from base04.blueprint import Blueprint
from base04.plugins.contributions import collect, collect_commands, collect_packs

Told = tuple[Literal["ok", "warning", "error"], str, str]
"""How bad it is, what it is about, and what to do."""


def check(blueprint: Blueprint) -> Iterator[Told]:
    """Look at every plugin, what it contributes and what it needs."""
    found = blueprint.discovery
    for name, plugin in found.plugins.items():
        if plugin.status == "failed":
            yield "error", f"plugin {name}", f"{plugin.origin}: {plugin.reason}"
    enabled = sum(plugin.status == "enabled" for plugin in found.plugins.values())
    yield "ok", "plugins", f"{enabled} plugins take part."
    yield from _unmatched(blueprint)
    yield from _hooks(blueprint)
    taken = {source["distribution"] for source in found.action_sources if source["distribution"]} | {
        plugin.distribution for plugin in found.plugins.values() if plugin.distribution
    }
    for distribution in sorted(taken):
        yield from _versions(distribution)


def _unmatched(blueprint: Blueprint) -> Iterator[Told]:
    """Tell of names in ``plugins.allow`` and ``plugins.deny`` that are nobody's."""
    plugins = blueprint.discovery.plugins.values()
    names = {plugin.name for plugin in plugins} | {plugin.distribution for plugin in plugins if plugin.distribution}
    settings = blueprint.settings.plugins
    for key, patterns in (("allow", settings.allow), ("deny", settings.deny)):
        for pattern in patterns:
            if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
                yield "warning", f"plugins.{key}", f"{pattern!r} is the name of no plugin that is installed."


def _hooks(blueprint: Blueprint) -> Iterator[Told]:
    """Ask every plugin for what it contributes, as the host does, and tell of what cannot be had."""
    contributions = collect(blueprint.discovery, AppManager(blueprint.settings))
    collect_commands(blueprint.discovery)
    _, packs_not_ready = collect_packs(blueprint.discovery)
    for plugin in blueprint.discovery.plugins.values():
        for fault in plugin.faults:
            yield "error", f"plugin {plugin.name}", f"{fault.part} failed: {fault.reason}"
    for (name, hook), reason in (*contributions.not_ready, *packs_not_ready.items()):
        yield "warning", f"plugin {name}", f"Its hook {hook} is not ready: {reason}"


def _versions(distribution: str) -> Iterator[Told]:
    """Compare what a distribution asks for, without its extras, with what is installed."""
    for text in importlib.metadata.requires(distribution) or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            yield "warning", distribution, f"Its requirement {text!r} cannot be read."
            continue
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield "error", distribution, f"It needs {text}, which is not installed: pip install '{text}'."
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            told = f"It needs {text}, and {requirement.name} {installed} is installed: pip install -U."
            yield "error", distribution, told
