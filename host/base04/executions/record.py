"""Executions as rows, and as their callers see them."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from base04.actions.failures import Status
from base04.executions.table import INSIDE, ExecutionStatus
from base04.records.time_ids import moment, new_id
from base04.telemetry.origin import current_traceparent
from base04_hookspecs.action_discovery import Action
from base04_hookspecs.context import Principal, RequestContext

_LONGEST: Final = 255


Note = tuple[RequestContext, Status, float, float, BaseException | None]
"""A run that has ended: in which context, how, when it began, how long it took in seconds, and its error."""


def history_rows(notes: Sequence[Note]) -> list[dict[str, Any]]:
    """Return the rows of runs that have ended; columns that would be null are left out."""
    ends = secrets.token_hex(5 * len(notes))
    rows: list[dict[str, Any]] = []
    for number, (context, status, began, duration, error) in enumerate(notes):
        principal, request_id = context.principal, context.request_id
        row: dict[str, Any] = {
            "id": moment(began) + ends[10 * number : 10 * number + 10],
            "action": context.action,
            "status": status,
            "mode": "wait",
            "source": context.source,
            "request_id": request_id if len(request_id) <= _LONGEST else request_id[:_LONGEST],
            "created_at": began,
            "duration": duration,
        }
        if principal.user_id is not None:
            row["user_id"] = principal.user_id[:_LONGEST]
        if principal.api_key_id is not None:
            row["api_key_id"] = principal.api_key_id[:_LONGEST]
        if context.client_ip is not None:
            row["client_ip"] = context.client_ip[:_LONGEST]
        if error is not None:
            row["error"] = error_of(error, request_id)
        rows.append(row)
    return rows


def queued_row(action: Action, args: Mapping[str, Any], context: RequestContext) -> dict[str, Any]:
    """Return the row of an execution that is to come, but for who holds it; secrets are not in it."""
    now = time.time()
    kept = args if action.conceal is None else action.conceal(args)
    trace = current_traceparent()
    return {
        "id": new_id(now, 16),
        "status": "queued",
        "mode": "background",
        **_who(context),
        "created_at": now,
        "arguments": orjson.dumps(kept).decode(),
        "principal": _kept(context.principal),
        "priority": action.policy.priority,
        "attempt": 1,
        "idempotent": action.policy.idempotent,
        "cancel": False,
        "trace": None if trace is None else str(trace),
    }


def ended(
    row: Mapping[str, Any],
    status: ExecutionStatus,
    *,
    result: bytes | None = None,
    error: BaseException | Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what changes when an execution ends: nothing that is needed to run it is kept."""
    now = time.time()
    told = error_of(error, row["request_id"]) if error is None or isinstance(error, BaseException) else dict(error)
    return {
        "status": status,
        "finished_at": now,
        "duration": now - (row["started_at"] or now),
        "result": None if result is None else result.decode(),
        "error": told,
        "arguments": None,
        "principal": None,
        "lease_until": None,
        "owner": None,
    }


def request_of(row: Mapping[str, Any]) -> RequestContext:
    """Return the context that an execution runs in: that of the request that asked for it."""
    kept = row["principal"]
    principal = Principal(**{**kept, "permissions": tuple(kept["permissions"])})
    return RequestContext(row["request_id"], principal, row["client_ip"], row["source"])


def error_of(error: BaseException | None, request_id: str | None) -> dict[str, Any] | None:
    """Return what a caller may know of an error, as the problem (RFC 9457) that it is over HTTP."""
    if error is None:
        return None
    from base04.http.problems import problem_members  # it brings Starlette, which listing plugins does without

    found = problem_members(error, request_id or "") if isinstance(error, Exception) else None
    if found is None:
        found = {"title": "It was cancelled", "detail": "It was ended before it had finished."}
    return found


def shown(row: Mapping[str, Any], *, inside: bool = False) -> dict[str, Any]:
    """Return an execution as its caller may see it; where it came from only those who may look inside."""
    found = {key: value for key, value in row.items() if key not in INSIDE}
    if not inside:
        found.pop("client_ip", None)
        found.pop("api_key_id", None)
    if "result" in found:
        found["result"] = None if found["result"] is None else orjson.loads(found["result"])
    if found["mode"] != "background":  # it began at once
        found["started_at"] = found["created_at"]
        found["finished_at"] = found["created_at"] + found["duration"]
        for key in ("progress", "priority", "attempt", "result"):
            found.pop(key, None)
    return found


def _who(context: RequestContext) -> dict[str, Any]:
    """Return who runs what; what callers chose themselves is cut where it is long."""
    principal = context.principal
    return {
        "action": context.action,
        "user_id": _cut(principal.user_id),
        "api_key_id": _cut(principal.api_key_id),
        "client_ip": _cut(context.client_ip),
        "source": context.source,
        "request_id": _cut(context.request_id),
    }


def _kept(principal: Principal) -> dict[str, Any]:
    """Return a caller as JSON; the claims of a token may be a mapping that only can be read."""
    values = {field.name: getattr(principal, field.name) for field in dataclasses.fields(principal)}
    return {**values, "permissions": list(principal.permissions), "claims": dict(principal.claims)}


def _cut(text: str | None) -> str | None:
    return text if text is None else text[:_LONGEST]
