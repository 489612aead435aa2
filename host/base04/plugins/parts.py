"""What each plugin has added to a generation, for people: routes, middleware, settings, actions."""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import structlog

from base04.discovery import Discovery
from base04.generation import Generation
from base04.plugins.isolation import pressed
from base04.resolution import Node, settings_path
from base04.settings_source import dotted
from base04_hookspecs.action_discovery import ActionCatalogue, ActionDiscoveryManager
from base04_hookspecs.app import ActionSource
from base04_hookspecs.module import AddedParts

_log = structlog.get_logger()


class PluginParts:
    """Looks once at what does not change with a generation, and at actions whenever there are others.

    Args:
        discovery: the plugins.
        generation: what they have become part of.
    """

    def __init__(self, discovery: Discovery, generation: Generation) -> None:
        self._generation = generation
        contributions = generation.contributions
        self._routes: defaultdict[str, list[str]] = defaultdict(list)
        for plugin, route in contributions.routes:
            if id(route) in contributions.refused:
                continue
            self._routes[plugin] += _seen(_route, route)
        self._middleware: defaultdict[str, list[str]] = defaultdict(list)
        for item in contributions.middleware:
            self._middleware[contributions.owner("middleware", item)] += _seen(_middleware, item)
        self._settings: defaultdict[str, list[str]] = defaultdict(list)
        for running in generation.running.values():
            self._settings[running.node.choice.candidate.plugin.name] += _settings(running.node)
        self._places = [
            (folder, name)
            for source in discovery.action_sources
            for name, plugin in discovery.plugins.items()
            if source["name"] in plugin.packs and plugin.distribution == source["distribution"]
            for folder in _folders(source)
        ] + [(f"plugin {name!r}", name) for name, plugin in discovery.plugins.items() if "action_packs" in plugin.hooks]
        self._catalogue: ActionCatalogue | None = None
        self._actions: dict[str, list[str]] = {}

    def of(self, plugin: str) -> AddedParts:
        """Return those of a plugin."""
        return {
            "actions": self._actions_now().get(plugin, []),
            "routes": self._routes.get(plugin, []),
            "middleware": self._middleware.get(plugin, []),
            "settings": self._settings.get(plugin, []),
        }

    def _actions_now(self) -> dict[str, list[str]]:
        """Return the actions by plugin; looked at again only where the catalogue is another one."""
        found = self._generation.find("action_discovery")
        catalogue = found.catalogue() if isinstance(found, ActionDiscoveryManager) else None
        if catalogue is not self._catalogue:
            brought: defaultdict[str, list[str]] = defaultdict(list)
            for action in catalogue or ():
                for place, plugin in self._places:
                    if action.info["source"].startswith(place):
                        brought[plugin].append(action.name)
            self._catalogue, self._actions = catalogue, dict(brought)
        return self._actions


def _seen(look: Callable[[Any], Iterable[str]], item: Any) -> list[str]:
    """Look at what a plugin made; it may do anything when it is looked at, and is named by its type then."""
    try:
        return [*map(str, look(item))]
    except BaseException as error:
        if pressed(error):
            raise
        return [type(item).__qualname__]


def _route(route: Any) -> Iterator[str]:
    methods = sorted((getattr(route, "methods", None) or set()) - {"HEAD"})
    path = getattr(route, "path", None) or type(route).__name__
    yield f"{','.join(methods)} {path}".strip()


def _middleware(item: Any) -> Iterator[str]:
    made = getattr(item, "cls", item)
    yield getattr(made, "__qualname__", type(made).__qualname__)


def _settings(node: Node) -> Iterator[str]:
    """Yield the keys that a running manager reads, below its role."""
    model = node.constructor.settings_model
    for name in model.model_fields if model is not None else ():
        yield dotted((*settings_path(node.key), node.choice.candidate.provider.name, name))


def _folders(source: ActionSource) -> Iterator[str]:
    try:
        spec = importlib.util.find_spec(source["package"])
    except Exception as error:  # noqa: BLE001 - a parent package is imported, which may raise anything
        _log.debug("a package with actions cannot be found", package=source["package"], error=str(error))
        return
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        yield f"{Path(folder)}/"
