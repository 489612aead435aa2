"""Telling the plugins' audit listeners what whoever is responsible wants to know of."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal

import structlog

from base04_hookspecs.context import RequestContext
from base04_hookspecs.host_hooks import AuditEvent, AuditListener

_log = structlog.get_logger()


class Audit:
    """Calls every listener with every event; one that raises is logged and changes nothing."""

    def __init__(self, listeners: Sequence[AuditListener]) -> None:
        self._listeners = tuple(listeners)

    async def tell(
        self, event: str, outcome: Literal["success", "denied", "error"], context: RequestContext, **details: Any
    ) -> None:
        """Tell what happened; ``details`` hold no secrets."""
        at = time.time()
        for listener in self._listeners:
            found: AuditEvent = {
                "event": event,
                "at": at,
                "outcome": outcome,
                "user_id": context.principal.user_id,
                "client_ip": context.client_ip,
                "request_id": context.request_id,
                "details": dict(details),
            }
            try:
                await listener(found)
            except Exception:  # noqa: BLE001 - what is told has happened, whoever fails to hear it; it is reported
                _log.exception("an audit listener failed", audit_event=event, request_id=context.request_id)
