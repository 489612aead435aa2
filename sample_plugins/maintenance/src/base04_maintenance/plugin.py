"""What the host imports."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import typer
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from base04_hookspecs import Provider, hookimpl
from base04_hookspecs.app import AppManager
from base04_hookspecs.host_hooks import BeforeAction
from base04_maintenance.commands import group
from base04_maintenance.guard import MaintenanceGuard, refuse_calls
from base04_maintenance.routes import maintenance_routes


@hookimpl
def extra_providers() -> Iterable[Provider]:
    """Offer the role ``maintenance``: it is where the plugin has its settings, its managers and its task."""
    yield Provider(
        "state",
        "base04_maintenance.manager:StateMaintenanceManager",
        default=True,
        role="maintenance",
        summary="whether the application is closed, as a state that all processes watch",
    )


@hookimpl
def middleware(app: AppManager) -> Iterable[Middleware]:
    """Refuse whoever may not pass while the application is closed."""
    yield Middleware(MaintenanceGuard, host=app)


@hookimpl
def before_action(app: AppManager) -> Iterable[BeforeAction]:
    """Refuse the calls of connections that were open before."""
    yield partial(refuse_calls, app)


@hookimpl
def routes(app: AppManager) -> Iterable[BaseRoute]:
    """Add ``/maintenance``."""
    yield from maintenance_routes(app)


@hookimpl
def cli_commands() -> Iterable[typer.Typer]:
    """Add ``base04 maintenance``."""
    yield group
