"""What the host imports."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import typer
from starlette.routing import BaseRoute

from base04_hookspecs import Provider, hookimpl
from base04_hookspecs.app import AppManager
from base04_hookspecs.host_hooks import AfterAction, AuditListener
from base04_webhooks.commands import group
from base04_webhooks.events import tell_of_action, tell_of_audit
from base04_webhooks.routes import webhook_routes


@hookimpl
def extra_providers() -> Iterable[Provider]:
    """Offer the role ``webhooks``: where the plugin has its settings, its database and its tasks."""
    yield Provider(
        "outbox",
        "base04_webhooks.manager:OutboxWebhooksManager",
        default=True,
        role="webhooks",
        summary="signed events over HTTP, kept in the database until they are delivered",
    )


@hookimpl
def audit_event(app: AppManager) -> Iterable[AuditListener]:
    """Tell of audit events."""
    yield partial(tell_of_audit, app)


@hookimpl
def after_action(app: AppManager) -> Iterable[AfterAction]:
    """Tell how actions ended."""
    yield partial(tell_of_action, app)


@hookimpl
def routes(app: AppManager) -> Iterable[BaseRoute]:
    """Add ``/webhooks``."""
    yield from webhook_routes(app)


@hookimpl
def cli_commands() -> Iterable[typer.Typer]:
    """Add ``base04 webhooks``."""
    yield group
