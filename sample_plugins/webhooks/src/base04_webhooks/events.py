"""What is told of audit events and of actions: never arguments, results or messages of errors, for secrets' sake."""

from __future__ import annotations

from typing import Any

from base04_hookspecs.app import AppManager
from base04_hookspecs.errors import ManagerUnavailable, NotFound
from base04_hookspecs.host_hooks import ActionCall, ActionOutcome, AuditEvent
from base04_webhooks.contract import WebhooksManager


def webhooks_of(app: AppManager) -> WebhooksManager | None:
    """Return the manager, None where none is up."""
    try:
        manager = app.get_manager(WebhooksManager.role)
    except (NotFound, ManagerUnavailable):
        return None
    return manager if isinstance(manager, WebhooksManager) else None


async def tell_of_audit(app: AppManager, event: AuditEvent) -> None:
    """Write an audit event to the outbox, as ``audit.`` and its name, before what was done is answered."""
    name, manager = f"audit.{event['event']}", webhooks_of(app)
    if manager is not None and manager.wants(name):
        await manager.post(name, {key: value for key, value in event.items() if key != "event"})


async def tell_of_action(app: AppManager, call: ActionCall, outcome: ActionOutcome) -> None:
    """Queue how an action ended, as ``action.`` and its status; the action waits for nothing."""
    name, manager = f"action.{outcome.status}", webhooks_of(app)
    if manager is not None and manager.wants(name):
        manager.post_soon(name, _told(call, outcome))


def _told(call: ActionCall, outcome: ActionOutcome) -> dict[str, Any]:
    return {
        "action": call.action["name"],
        "status": outcome.status,
        "duration": outcome.duration,
        "error": None if outcome.error is None else type(outcome.error).__name__,
        "user_id": call.request.principal.user_id,
        "request_id": call.request.request_id,
        "source": call.request.source,
    }
