"""What plugins add beside managers, collected once for each generation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from threading import Thread
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import structlog

from base04.discovery import Discovery, name_slow
from base04.errors import HostError
from base04.plugins.hook_timings import COLLECT, HookTimings
from base04.plugins.isolation import plugin_code, pressed
from base04.plugins.signatures import fitted
from base04_hookspecs.app import ActionPackSource, AppManager
from base04_hookspecs.errors import ManagerUnavailable
from base04_hookspecs.host_hooks import (
    ARGUMENTS,
    AfterAction,
    Arguments,
    AuditListener,
    Authenticator,
    BeforeAction,
    LifecycleStep,
)
from base04_hookspecs.websocket import RoomAuthorizer

if TYPE_CHECKING:
    from prometheus_client.registry import Collector
    from starlette.middleware import Middleware
    from starlette.routing import BaseRoute

    from base04.plugins.plugin import Plugin

MOST_ITEMS: Final = 10_000
"""How many things one hook of one plugin may contribute."""

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose something is that a hook returned, and what it is called in messages."""

    plugin: Plugin
    part: str


@dataclass(frozen=True, slots=True)
class Contributions:
    """The callables and objects that hooks returned, in the order of their plugins' names.

    ``routes``, ``lifecycle`` steps and ``metrics`` keep the plugin's name, for messages; ``blame`` knows whose the
    others are. Callables take all that the host offers, whatever the plugin's own take. ``not_ready`` has the plugins
    and hooks that have nothing to give just now, and why. ``stuck_collectors`` are the threads of metrics collectors
    that did not answer in time, by the collectors' ids.
    """

    routes: tuple[tuple[str, BaseRoute], ...] = ()
    middleware: tuple[Middleware, ...] = ()
    authenticate: tuple[Authenticator, ...] = ()
    before_action: tuple[BeforeAction, ...] = ()
    after_action: tuple[AfterAction, ...] = ()
    startup: tuple[tuple[str, LifecycleStep], ...] = ()
    shutdown: tuple[tuple[str, LifecycleStep], ...] = ()
    audit_event: tuple[AuditListener, ...] = ()
    metrics: tuple[tuple[str, Collector], ...] = ()
    authorize_room: tuple[RoomAuthorizer, ...] = field(default=())
    owners: Mapping[tuple[str, int], Owner] = field(default_factory=dict, compare=False)
    not_ready: tuple[tuple[tuple[str, str], str], ...] = ()
    refused: set[int] = field(default_factory=set, compare=False)
    """The ids of the routes that the host does not serve."""
    stuck_collectors: dict[int, Thread] = field(default_factory=dict, compare=False)

    def blame(self, hook: str, item: object, error: BaseException) -> str:
        """Keep what something raised with the plugin that it is of, and return that plugin's name."""
        owner = self.owners.get((hook, id(item)))
        if owner is None:
            return ""
        owner.plugin.faults.note(owner.part, error)
        return owner.plugin.name

    def acquit(self, hook: str, item: object) -> None:
        """Forget what something has raised before: it has done well."""
        owner = self.owners.get((hook, id(item)))
        if owner is not None:
            owner.plugin.faults.clear(owner.part)

    def owner(self, hook: str, item: object) -> str:
        """Return the name of the plugin that something is of."""
        found = self.owners.get((hook, id(item)))
        return found.plugin.name if found is not None else ""


def collect(
    discovery: Discovery,
    app: AppManager,
    *,
    arguments: Mapping[str, Arguments] = ARGUMENTS,
    further: Mapping[str, Any] = _NOTHING,
    timings: HookTimings | None = None,
) -> Contributions:
    """Call each host-wide hook of each plugin once; one that raises is reported and contributes nothing.

    Args:
        discovery: the plugins.
        app: what implementations are given that take it.
        arguments: what the callables of each hook are called with.
        further: what implementations are given beside, by name, where their specification and they have it.
        timings: where to note how long each took.
    """
    for plugin in discovery.plugins.values():
        plugin.collect_time = 0.0
    collector = _Collector(discovery, {"app": app, **further}, arguments, timings)

    def named(hook: str) -> Any:
        return tuple(collector.items(hook))

    def plain(hook: str) -> Any:
        return tuple(item for _, item in collector.items(hook))

    return Contributions(
        routes=named("routes"),
        middleware=plain("middleware"),
        authenticate=plain("authenticate"),
        before_action=plain("before_action"),
        after_action=plain("after_action"),
        startup=named("startup"),
        shutdown=named("shutdown"),
        audit_event=plain("audit_event"),
        metrics=named("metrics"),
        authorize_room=plain("authorize_room"),
        owners=collector.owners,
        not_ready=tuple(collector.not_ready.items()),
    )


def why_not_ready(discovery: Discovery, app: AppManager, plugin: str, hook: str) -> str | None:
    """Ask a plugin for what a hook contributes, and return why it cannot say yet; None where it can, or has failed."""
    collector = _Collector(discovery, {"app": app})
    collector.ask(plugin, hook)
    return collector.not_ready.get((plugin, hook))


def collect_commands(discovery: Discovery) -> list[tuple[str, Any]]:
    """Return the plugins' command groups with the plugins' names."""
    return list(_Collector(discovery).items("cli_commands"))


def collect_packs(discovery: Discovery) -> tuple[list[ActionPackSource], dict[tuple[str, str], str]]:
    """Return the action packs that plugins define now, and by plugin and hook why some cannot yet."""
    collector = _Collector(discovery)
    packs: list[ActionPackSource] = [
        {"plugin": name, "definition": item} for name, item in collector.items("action_packs")
    ]
    return packs, collector.not_ready


class _Collector:
    """Asks plugins, each on its own."""

    def __init__(
        self,
        discovery: Discovery,
        offered: Mapping[str, Any] = _NOTHING,
        arguments: Mapping[str, Arguments] = ARGUMENTS,
        timings: HookTimings | None = None,
    ) -> None:
        self._discovery, self._offered, self._arguments, self._timings = discovery, offered, arguments, timings
        self.owners: dict[tuple[str, int], Owner] = {}
        self.not_ready: dict[tuple[str, str], str] = {}

    def ask(self, plugin: str, hook: str) -> None:
        """Ask one plugin, and keep nothing of what it returns."""
        for name, implementation in self._discovery.registry.implementations(hook, self._offered):
            if name == plugin:
                self._returned(self._discovery.plugins[name], hook, implementation)

    def items(self, hook: str) -> Iterator[tuple[str, Any]]:
        """Yield what the implementations of a hook return, with the names of their plugins."""
        for name, implementation in self._discovery.registry.implementations(hook, self._offered):
            plugin = self._discovery.plugins[name]
            for item in self._returned(plugin, hook, implementation):
                part = f"{hook} {_label(item)}"
                fitting = self._fitting(plugin, hook, part, item)
                if fitting is not None:
                    self.owners[hook, id(fitting)] = Owner(plugin, part)
                    yield name, fitting

    def _returned(self, plugin: Plugin, hook: str, implementation: Callable[[], Any]) -> list[Any]:
        part = f"hook {hook}"
        began = time.perf_counter()
        try:
            with plugin_code():
                items = list(islice(implementation() or (), MOST_ITEMS + 1))
            if len(items) > MOST_ITEMS:
                raise HostError(f"It gave more than {MOST_ITEMS} things; is its iterable without end?")
        except ManagerUnavailable as error:
            self.not_ready[plugin.name, hook] = str(error)
            return []
        except BaseException as error:
            if pressed(error):
                raise
            self._report(plugin, hook, part, error)
            return []
        finally:
            seconds = time.perf_counter() - began
            plugin.collect_time += seconds
            if self._timings is not None:
                self._timings.add(plugin.name, hook, COLLECT, seconds)
            name_slow(plugin, f"hook {hook}", seconds, self._discovery.slow_after_s)
        plugin.faults.clear(part)
        return items

    def _fitting(self, plugin: Plugin, hook: str, part: str, item: Any) -> Any:
        """Return what the host is to call, None where it cannot call it."""
        if hook not in self._arguments:
            return item
        try:
            return fitted(item, self._arguments[hook], hook)
        except BaseException as error:
            if pressed(error):
                raise
            self._report(plugin, hook, part, error)
            return None

    def _report(self, plugin: Plugin, hook: str, part: str, error: BaseException) -> None:
        fault = plugin.faults.note(part, error)
        _log.error(
            "a hook failed and contributes nothing",
            plugin=plugin.name,
            hook=hook,
            reason=fault.reason,
            traceback=fault.error or None,
        )


def _label(item: object) -> str:
    """Return what something is called in messages; a plugin's object may do anything when it is looked at."""
    try:
        item = getattr(item, "cls", item)  # of a middleware
        return str(getattr(item, "path", None) or getattr(item, "__qualname__", None) or type(item).__qualname__)
    except BaseException as error:
        if pressed(error):
            raise
        return type(item).__qualname__
