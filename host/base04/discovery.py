"""Entry points -> plugins: filtered before import, isolated when they fail."""

from __future__ import annotations

import contextlib
import difflib
import fnmatch
import importlib
import importlib.metadata
import importlib.util
import inspect
import sys
import time
import traceback
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pluggy
import structlog

from base04.errors import HostError
from base04.plugins.compatibility import contract_fits
from base04.plugins.installed import InstalledDistribution, InstalledPoint, InstalledPoints
from base04.plugins.isolation import described, plugin_code, pressed
from base04.plugins.local_imports import LocalImports, file_stamp
from base04.plugins.plugin import HOST_DISTRIBUTION, Candidate, Plugin
from base04.plugins.signatures import refuse_unknown
from base04.plugins.watchdog import watched
from base04.settings import PluginSettings
from base04_hookspecs.app import ActionSource
from base04_hookspecs.errors import Base04Error
from base04_hookspecs.markers import PROJECT
from base04_hookspecs.module import ModuleStatus
from base04_hookspecs.provider import Provider
from base04_hookspecs.roles import HOOK_SPECIFICATIONS, ROLES

PLUGIN_GROUP: Final = "base04.plugins"
ACTION_GROUP: Final = "base04.actions"
DISABLED: Final = "it was switched off: `base04 modules enable` lets it take part again"

_log = structlog.get_logger()


class PluginRefused(HostError):
    """A plugin cannot take part; the message says why."""


class HookRegistry(pluggy.PluginManager):
    """pluggy's plugin manager, strict: wrappers and unknown hooks are refused."""

    def __init__(self) -> None:
        super().__init__(PROJECT)
        for specification in HOOK_SPECIFICATIONS:
            self.add_hookspecs(specification)

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        """Read the marker of an implementation, as pluggy does, and refuse what the host does not call."""
        options = super().parse_hookimpl_opts(plugin, name)
        if options is None:
            return None
        if options.get("wrapper") or options.get("hookwrapper"):
            raise PluginRefused(
                f"The hook {name!r} is implemented as a wrapper. Base04 hooks only collect: return a value instead."
            )
        hook = options.get("specname") or name
        if not options.get("optionalhook") and not hasattr(self.hook, hook):
            known = sorted(vars(self.hook))
            close = difflib.get_close_matches(hook, known, 1, 0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}."
            raise PluginRefused(f"There is no hook {hook!r}; {hint}")
        specification = getattr(getattr(self.hook, hook, None), "spec", None)
        if specification is not None:
            refuse_unknown(getattr(plugin, name), hook, (*specification.argnames, *specification.kwargnames))
        return options

    def implementations(
        self, hook: str, offered: Mapping[str, Any] = MappingProxyType({})
    ) -> list[tuple[str, Callable[[], Any]]]:
        """Return the implementations of a hook with their plugins' names, ordered by name.

        Each is ready to be called: of what is ``offered`` it gets, by name, what it and its specification have
        parameters for.
        """
        found: list[tuple[str, Callable[[], Any]]] = []
        caller = getattr(self.hook, hook)
        known = {name: offered[name] for name in (*caller.spec.argnames, *caller.spec.kwargnames) if name in offered}
        for impl in caller.get_hookimpls():
            parameters = inspect.signature(impl.function).parameters if known else ()
            taken = {name: known[name] for name in parameters if name in known}
            found.append((impl.plugin_name, partial(impl.function, **taken) if taken else impl.function))
        return sorted(found, key=lambda pair: pair[0])


@dataclass(slots=True)
class Discovery:
    """What was found: all plugins by name, the candidates of each role, and the packages with action packs."""

    registry: HookRegistry
    plugins: dict[str, Plugin] = field(default_factory=dict)
    action_sources: list[ActionSource] = field(default_factory=list)
    imports: LocalImports = field(default_factory=LocalImports)
    slow_after_s: float = 1.0

    @property
    def candidates(self) -> dict[str, list[Candidate]]:
        """The offered providers by role, in the order of their plugins' names."""
        found: dict[str, list[Candidate]] = {role: [] for role in ROLES}
        for plugin in self.plugins.values():
            for candidate in plugin.candidates:
                found.setdefault(candidate.role, []).append(candidate)
        return found

    def failed(self) -> list[Plugin]:
        """Return the plugins that failed, by name."""
        return [plugin for plugin in self.plugins.values() if plugin.status == "failed"]


def discover(
    settings: PluginSettings,
    *,
    safe_mode: bool = False,
    extra_plugins: Iterable[tuple[str, object]] = (),
    disabled: Container[str] = (),
    previous: Discovery | None = None,
) -> Discovery:
    """Find all plugins, import those that may take part, and ask them for their providers.

    Args:
        settings: what may take part.
        safe_mode: only what comes with Base04, and ``extra_plugins``, takes part.
        extra_plugins: names and plugin objects that the program brings itself.
        disabled: names of plugins that were switched off.
        previous: what was found before: local plugins whose files have changed since are imported anew.
    """
    imports = LocalImports(previous.imports if previous is not None else None)
    discovery = Discovery(HookRegistry(), imports=imports, slow_after_s=settings.slow_after)
    installed = InstalledPoints()
    loaders: list[tuple[Plugin, Callable[[], Any]]] = [
        *_from_entry_points(installed, settings, safe_mode, discovery),
        *([] if safe_mode else _from_folders(settings, discovery)),
        *((Plugin(name, "program", _target_of(item)), lambda item=item: item) for name, item in extra_plugins),
    ]
    for plugin, load in loaders:
        if plugin.name in disabled:
            _leave_out(discovery, plugin, DISABLED, "disabled")
        else:
            before = previous.plugins.get(plugin.name) if previous is not None else None
            with watched(plugin.name, "load") if plugin.source != "builtin" else contextlib.nullcontext():
                _admit(discovery, plugin, load, before)
    _find_action_sources(installed, discovery, settings, safe_mode, disabled)
    discovery.plugins = dict(sorted(discovery.plugins.items()))
    return discovery


def _from_entry_points(
    installed: InstalledPoints, settings: PluginSettings, safe_mode: bool, discovery: Discovery
) -> Iterator[tuple[Plugin, Callable[[], Any]]]:
    points = installed.of(PLUGIN_GROUP)
    points.sort(key=lambda item: (item.distribution.name != HOST_DISTRIBUTION, item.name, item.distribution.name))
    for point in points:
        distribution = point.distribution.name
        built_in = distribution == HOST_DISTRIBUTION
        plugin = Plugin(
            name=point.name,
            source="builtin" if built_in else "installed",
            target=point.value,
            distribution=distribution,
            version=point.distribution.version,
        )
        denied = why_left_out(plugin.name, distribution, settings, safe_mode)
        if denied:
            _leave_out(discovery, plugin, denied)
        else:
            yield plugin, _entry_point_loader(point, plugin)


def _leave_out(discovery: Discovery, plugin: Plugin, reason: str, status: ModuleStatus = "denied") -> None:
    plugin.status, plugin.reason = status, reason
    name = plugin.name if plugin.name not in discovery.plugins else f"{plugin.name} ({plugin.origin})"
    discovery.plugins[name] = plugin


def _entry_point_loader(point: InstalledPoint, plugin: Plugin) -> Callable[[], Any]:
    def load() -> Any:
        check_host_requirement(point.distribution)
        loaded = point.load()
        plugin.stamp = (plugin.version, file_stamp(getattr(sys.modules.get(point.module), "__file__", None)))
        return loaded

    return load


def why_left_out(name: str, distribution: str, settings: PluginSettings, safe_mode: bool) -> str:
    """Return why settings keep a plugin out, nothing where they let it in."""
    if _matches(settings.deny, name, distribution):
        return "plugins.deny names it"
    if distribution == HOST_DISTRIBUTION:
        return ""
    if safe_mode:
        return "safe mode leaves out everything that does not come with Base04"
    if settings.allow:
        return "" if _matches(settings.allow, name, distribution) else "plugins.allow does not name it"
    return "" if settings.autoload else "plugins.autoload is false and plugins.allow does not name it"


def _matches(patterns: Sequence[str], *names: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns for name in names if name)


def check_host_requirement(distribution: InstalledDistribution) -> None:
    """Refuse a distribution whose own requirement on Base04 the running version does not meet."""
    for text in distribution.requires:
        if not text.lower().startswith(HOST_DISTRIBUTION):
            continue
        from packaging.requirements import InvalidRequirement, Requirement

        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise PluginRefused(f"Its requirement {text!r} cannot be read.") from error
        applies = requirement.name.lower() == HOST_DISTRIBUTION and (
            requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        )
        running = importlib.metadata.version(HOST_DISTRIBUTION)
        if applies and not requirement.specifier.contains(running, prereleases=True):
            raise PluginRefused(f"It needs base04{requirement.specifier}, and this is base04 {running}.")


def _from_folders(settings: PluginSettings, discovery: Discovery) -> Iterator[tuple[Plugin, Callable[[], Any]]]:
    for folder in settings.paths:
        path = folder.expanduser().resolve()
        if not path.is_dir():
            missing = Plugin(str(folder), "path", str(path))
            yield missing, _raiser(PluginRefused(f"plugins.paths names {str(folder)!r}, which is not a folder."))
            continue
        for item in sorted(path.iterdir()):
            module = item.stem if item.suffix == ".py" else item.name if (item / "__init__.py").is_file() else ""
            if not module.isidentifier() or module.startswith("_"):
                continue
            plugin = Plugin(module, "path", str(item))
            if _matches(settings.deny, module):
                _leave_out(discovery, plugin, "plugins.deny names it")
            else:
                yield plugin, _local_loader(plugin, path, discovery.imports)


def _local_loader(plugin: Plugin, folder: Path, imports: LocalImports) -> Callable[[], Any]:
    module = plugin.name

    def load() -> Any:
        if str(folder) not in sys.path:
            sys.path.append(str(folder))  # last, so that a local plugin never hides an installed module
        loaded = imports.load(module, Path(plugin.target))
        plugin.stamp = imports.stamps[module]
        origin = Path(loaded.__file__ or "").resolve()
        if folder not in origin.parents:
            raise PluginRefused(f"The module name {module!r} is taken by {origin}; rename the plugin.")
        return loaded

    return load


def _raiser(error: Exception) -> Callable[[], Any]:
    def load() -> Any:
        raise error

    return load


def _admit(discovery: Discovery, plugin: Plugin, load: Callable[[], Any], before: Plugin | None = None) -> None:
    """Import and register one plugin; whatever it raises stays with it."""
    taken = discovery.plugins.get(plugin.name)
    if taken is not None and taken.status == "denied":
        discovery.plugins[f"{taken.name} ({taken.origin})"] = discovery.plugins.pop(plugin.name)
    elif taken is not None:
        plugin.fail(f"The name {plugin.name!r} is taken by the plugin of {taken.origin}.")
        discovery.plugins[f"{plugin.name} ({plugin.origin})"] = plugin
        return
    discovery.plugins[plugin.name] = plugin
    began = loaded = time.perf_counter()
    try:
        with plugin_code():
            implementation = load()
            loaded = time.perf_counter()
            if before is not None and type(before.implementation) is implementation:
                implementation = before.implementation  # the same class is the same plugin
            plugin.implementation = implementation() if isinstance(implementation, type) else implementation
            discovery.registry.register(plugin.implementation, plugin.name)
            found = discovery.registry.get_hookcallers(plugin.implementation)
            plugin.hooks = sorted(caller.name for caller in found or ())
            plugin.candidates = list(_offered(discovery.registry, plugin))
        if before is not None and before.implementation is plugin.implementation:
            plugin.faults = before.faults
    except BaseException as error:
        if pressed(error):
            raise
        _drop(discovery.registry, plugin, error)
    ended = time.perf_counter()
    plugin.load_time = ended - began
    name_slow(plugin, "import", (loaded if loaded > began else ended) - began, discovery.slow_after_s)
    name_slow(plugin, "register", ended - loaded if loaded > began else 0.0, discovery.slow_after_s)


def name_slow(plugin: Plugin, stage: str, seconds: float, slow_after_s: float) -> None:
    """Name a plugin that took longer than it should for one stage of its way in."""
    if seconds > slow_after_s:
        _log.warning("a plugin is slow to load", plugin=plugin.name, stage=stage, seconds=round(seconds, 3))


def _drop(registry: HookRegistry, plugin: Plugin, error: BaseException) -> None:
    expected = isinstance(error, Base04Error)
    plugin.fail(str(error) if expected else described(error), "" if expected else traceback.format_exc())
    plugin.candidates, plugin.hooks = [], []
    if registry.has_plugin(plugin.name):
        registry.unregister(name=plugin.name)
    _log.error(
        "a plugin failed and is left out",
        plugin=plugin.name,
        origin=plugin.origin,
        reason=plugin.reason,
        traceback=plugin.error or None,
    )


def _offered(registry: HookRegistry, plugin: Plugin) -> Iterator[Candidate]:
    hooks = {f"{role}_providers": role for role in ROLES} | {"extra_providers": None}
    seen: set[tuple[str, str]] = set()
    for hook, role in hooks.items():
        if hook not in plugin.hooks:
            continue
        for name, collect in registry.implementations(hook):
            if name == plugin.name:
                for provider in collect() or ():
                    candidate = Candidate(_checked_role(hook, role, provider), provider, plugin)
                    if (candidate.role, provider.name) in seen:
                        raise PluginRefused(
                            f"It offers two providers {provider.name!r} of the role {candidate.role!r}."
                        )
                    seen.add((candidate.role, provider.name))
                    yield candidate


def _checked_role(hook: str, role: str | None, provider: object) -> str:
    if not isinstance(provider, Provider):
        raise PluginRefused(f"The hook {hook!r} gave {provider!r}, which is not a Provider.")
    if role is None and (provider.role is None or provider.role in ROLES):
        raise PluginRefused(
            f"The provider {provider.name!r} of 'extra_providers' has the role {provider.role!r}; "
            "name a role of your own there, and use '<role>_providers' for those of Base04."
        )
    if role is not None and provider.role not in (None, role):
        raise PluginRefused(f"The hook {hook!r} gave a provider of the role {provider.role!r}.")
    if role is not None and not contract_fits(provider.written_for, serves := ROLES[role].contract_version):
        raise PluginRefused(
            f"The provider {provider.name!r} is written for version {provider.written_for} of the contract {role!r}, "
            f"and this Base04 has version {serves}."
        )
    return role or str(provider.role)


def _find_action_sources(
    installed: InstalledPoints,
    discovery: Discovery,
    settings: PluginSettings,
    safe_mode: bool,
    disabled: Container[str],
) -> None:
    for point in sorted(installed.of(ACTION_GROUP), key=lambda item: (item.name, item.distribution.name)):
        distribution, version = point.distribution.name, point.distribution.version
        plugin = _plugin_of_pack(discovery, point)
        denied = why_left_out(point.name, distribution, settings, safe_mode)
        if denied:
            if plugin.status == "enabled" and not plugin.hooks:
                plugin.status, plugin.reason = "denied", denied
            continue
        if plugin.name in disabled:
            plugin.status, plugin.reason = "disabled", DISABLED
            continue
        try:
            check_host_requirement(point.distribution)
        except PluginRefused as error:
            plugin.fail(str(error))
            _log.error("an action pack is left out", pack=point.name, distribution=distribution, reason=str(error))
            continue
        plugin.packs.append(point.name)
        discovery.action_sources.append(
            ActionSource(name=point.name, package=point.value, distribution=distribution, version=version)
        )


def _plugin_of_pack(discovery: Discovery, point: InstalledPoint) -> Plugin:
    """Return the plugin that brings a pack; a distribution that has only packs counts as one, named after its pack."""
    distribution = point.distribution.name
    for plugin in discovery.plugins.values():
        if plugin.distribution == distribution:
            return plugin
    name = point.name if point.name not in discovery.plugins else f"{point.name} ({distribution})"
    discovery.plugins[name] = Plugin(name, "installed", point.value, distribution, point.distribution.version)
    return discovery.plugins[name]


def _target_of(item: object) -> str:
    return getattr(item, "__name__", None) or f"{type(item).__module__}:{type(item).__qualname__}"
