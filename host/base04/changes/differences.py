"""What would change from one blueprint to the next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from base04.blueprint import Blueprint
from base04.changes.renewal import stale_with
from base04.plugins.plugin import Plugin
from base04.resolution import Node, direct_dependencies
from base04.selection import InstanceKey
from base04.settings_source import SettingsDocument, dotted
from base04_hookspecs.app import ReloadReport

_ACTIONS: Final = InstanceKey("action_discovery")
_ONLY_AT_START: Final = (
    ("data_dir",),
    ("log",),
    ("server", "host"),
    ("server", "port"),
    ("server", "workers"),
    ("server", "trusted_proxies"),
    ("server", "health_interval"),
    ("audit",),
    ("telemetry",),
)
"""Settings that are read when the host starts, and not again."""

Flat = dict[tuple[str, ...], Any]


@dataclass(frozen=True, slots=True)
class Differences:
    """What has changed; ``renewed_keys`` are the managers of both that get new instances."""

    started: list[InstanceKey]
    renewed: list[InstanceKey]
    stopped: list[InstanceKey]
    providers: dict[str, str]
    plugins: dict[str, str]
    settings: list[str]
    restart_needed: list[str]
    broken: list[str] = field(default_factory=list)

    @property
    def renewed_keys(self) -> frozenset[InstanceKey]:
        """Who gets a new instance in place of the old one."""
        return frozenset(self.renewed)

    def report(self, *, applied: bool, generation: int) -> ReloadReport:
        """Return it for people and programs."""
        return {
            "applied": applied,
            "settings": self.settings,
            "plugins": self.plugins,
            "started": [str(key) for key in self.started],
            "renewed": [str(key) for key in self.renewed],
            "stopped": [str(key) for key in self.stopped],
            "providers": self.providers,
            "restart_needed": self.restart_needed,
            "generation": generation,
        }


def compare(old: Blueprint, new: Blueprint, forced: Iterable[InstanceKey] = ()) -> Differences:
    """Return what would change; ``forced`` managers get new instances even if nothing has.

    Raises:
        HostError: the new blueprint cannot be: a provider is missing, settings are wrong.
    """
    before, after = old.plan.nodes, new.plan.nodes
    replaced = {key for key in before.keys() & after.keys() if _differs(before[key], after[key])} | set(forced)
    if _sources_of_actions(old) != _sources_of_actions(new) or forced:
        replaced.add(_ACTIONS)
    gone, added = before.keys() - after.keys(), after.keys() - before.keys()
    replaced |= {key for key, node in after.items() if direct_dependencies(node) & (gone | added)} - added
    stale = stale_with(new.plan, replaced=replaced & after.keys()) - added
    changed = dict(_plugins(old.discovery.plugins, new.discovery.plugins))
    return Differences(
        started=[key for key in after if key in added],
        renewed=[key for key in after if key in stale],
        stopped=[key for key in before if key in gone],
        providers=dict(_providers(before, after)),
        plugins=changed,
        settings=list(_settings(old.settings.document, new.settings.document)),
        restart_needed=[*_at_start(old, new), *_changed_on_disk(old.discovery.plugins, new.discovery.plugins)],
        broken=[
            name
            for name, what in changed.items()
            if what == "failed" and name in old.discovery.plugins and old.discovery.plugins[name].status == "enabled"
        ],
    )


def _sources_of_actions(blueprint: Blueprint) -> tuple[Any, ...]:
    """Return what brings actions: packages, and plugins that define packs."""
    found = blueprint.discovery
    defining = [
        (name, plugin.implementation) for name, plugin in found.plugins.items() if "action_packs" in plugin.hooks
    ]
    return found.action_sources, defining


def _differs(old: Node, new: Node) -> bool:
    return (
        old.constructor.cls is not new.constructor.cls
        or old.choice.candidate.qualified_name != new.choice.candidate.qualified_name
        or old.document.values != new.document.values
    )


def _providers(old: Mapping[InstanceKey, Node], new: Mapping[InstanceKey, Node]) -> Iterator[tuple[str, str]]:
    for key, node in new.items():
        is_now = node.choice.candidate.qualified_name
        was = old[key].choice.candidate.qualified_name if key in old else is_now
        if was != is_now:
            yield str(key), f"{was} -> {is_now}"


def _plugins(old: Mapping[str, Plugin], new: Mapping[str, Plugin]) -> Iterator[tuple[str, str]]:
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if after is None:
            yield name, "gone"
        elif before is None or before.status != after.status:
            if before is not None or after.status == "enabled" or after.status == "failed":
                yield name, after.status
        elif after.source == "path" and before.stamp != after.stamp:
            yield name, "changed"


def _changed_on_disk(old: Mapping[str, Plugin], new: Mapping[str, Plugin]) -> Iterator[str]:
    """Say which distributions were exchanged: what Python has imported stays as it was."""
    for name, after in new.items():
        before = old.get(name)
        if before is None or after.source not in ("installed", "builtin") or not (before.stamp and after.stamp):
            continue
        if before.version != after.version:
            yield (
                f"{after.distribution} is now {after.version} on disk, and {before.version} runs: restart the host "
                f"for its plugin {name!r}."
            )
        elif before.stamp != after.stamp:
            yield f"The files of {after.origin} have changed on disk: restart the host for its plugin {name!r}."


def _at_start(old: Blueprint, new: Blueprint) -> Iterator[str]:
    before, after = _flat(old.settings.document.values), _flat(new.settings.document.values)
    for path in sorted({*before, *after}):
        fixed = next((known for known in _ONLY_AT_START if path[: len(known)] == known), None)
        if fixed is not None and before.get(path) != after.get(path):
            yield f"{dotted(path)} is read when the host starts: restart it."


def _settings(old: SettingsDocument, new: SettingsDocument) -> Iterator[str]:
    """Say which keys have changed, without their values: any of them may hold a secret."""
    before, after = _flat(old.values), _flat(new.values)
    for path in sorted({*before, *after}):
        if path not in before:
            yield f"{dotted(path)}: added"
        elif path not in after:
            yield f"{dotted(path)}: removed"
        elif before[path] != after[path]:
            yield f"{dotted(path)}: changed"


def _flat(values: Mapping[str, Any], above: tuple[str, ...] = ()) -> Flat:
    found: Flat = {}
    for key, value in values.items():
        path = (*above, str(key))
        if isinstance(value, Mapping) and value:
            found |= _flat(value, path)
        else:
            found[path] = value
    return found
