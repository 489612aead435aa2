"""What plugins add beside managers, collected once for each generation."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from base04.discovery import Discovery
from base04_hookspecs.app import ActionPackSource, AppManager
from base04_hookspecs.host_hooks import AfterAction, AuditListener, Authenticator, BeforeAction, LifecycleStep
from base04_hookspecs.websocket import RoomAuthorizer

if TYPE_CHECKING:
    from prometheus_client.registry import Collector
    from starlette.middleware import Middleware
    from starlette.routing import BaseRoute

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Contributions:
    """The callables and objects that hooks returned, in the order of their plugins' names.

    ``routes``, ``lifecycle`` steps and ``metrics`` keep the plugin's name, for messages.
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


def collect(discovery: Discovery, app: AppManager) -> Contributions:
    """Call each host-wide hook of each plugin once; one that raises is reported and contributes nothing.

    ``app`` is handed to those that take it.
    """
    return Contributions(
        routes=tuple(_items(discovery, "routes", app)),
        middleware=tuple(item for _, item in _items(discovery, "middleware", app)),
        authenticate=tuple(item for _, item in _items(discovery, "authenticate", app)),
        before_action=tuple(item for _, item in _items(discovery, "before_action", app)),
        after_action=tuple(item for _, item in _items(discovery, "after_action", app)),
        startup=tuple(_items(discovery, "startup")),
        shutdown=tuple(_items(discovery, "shutdown")),
        audit_event=tuple(item for _, item in _items(discovery, "audit_event", app)),
        metrics=tuple(_items(discovery, "metrics", app)),
        authorize_room=tuple(item for _, item in _items(discovery, "authorize_room", app)),
    )


def collect_commands(discovery: Discovery) -> list[tuple[str, Any]]:
    """Return the plugins' command groups with the plugins' names."""
    return list(_items(discovery, "cli_commands"))


def collect_packs(discovery: Discovery) -> list[ActionPackSource]:
    """Return the action packs that plugins define now."""
    return [{"plugin": name, "definition": item} for name, item in _items(discovery, "action_packs")]


def _items(discovery: Discovery, hook: str, app: AppManager | None = None) -> Iterator[tuple[str, Any]]:
    for name, implementation in discovery.registry.implementations(hook):
        arguments = {"app": app} if "app" in inspect.signature(implementation).parameters else {}
        try:
            items = list(implementation(**arguments) or ())
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything, and the host goes on
            plugin = discovery.plugins[name]
            plugin.reason = f"its hook {hook!r} raised {type(error).__name__}: {error}"
            plugin.error = traceback.format_exc()
            _log.error("a hook failed and contributes nothing", plugin=name, hook=hook, traceback=plugin.error)
            continue
        for item in items:
            yield name, item
