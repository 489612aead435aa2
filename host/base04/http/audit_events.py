"""``GET /audit``: what the audit log holds."""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from base04.audit import AuditLog
from base04.audit_table import AuditQuery
from base04.http.access import demand
from base04.http.json_response import SecretAnswer
from base04_hookspecs.errors import Fault, InvalidInput
from base04_hookspecs.settings import parse_duration

PERMISSION: Final = "audit.read"

_PARAMETERS: Final = ("event", "outcome", "user", "request_id", "since", "until", "before", "limit")
_OUTCOMES: Final = ("success", "denied", "error")
_SECONDS: Final = re.compile(r"\d{1,12}(\.\d{1,9})?\Z")
_ID: Final = re.compile(r"[0-9a-f]{1,64}\Z")


def routes(audit: AuditLog) -> list[Route]:
    """Return the route; it needs the permission ``audit.read``."""

    async def events(request: Request) -> Response:
        demand(request, PERMISSION)
        found, more = await audit.query(_query(request.query_params))
        return SecretAnswer({"events": found, "next": more})

    return [Route("/audit", events, methods=["GET"])]


def _query(parameters: Mapping[str, str]) -> AuditQuery:
    """Read the parameters.

    Raises:
        InvalidInput: with everything that is wrong with them.
    """
    faults = [
        Fault(f"/{name}", f"There is no such parameter; there are {', '.join(_PARAMETERS)}.")
        for name in parameters
        if name not in _PARAMETERS
    ]
    outcome, limit, before = parameters.get("outcome"), parameters.get("limit", "100"), parameters.get("before")
    if outcome is not None and outcome not in _OUTCOMES:
        faults.append(Fault("/outcome", f"It is one of {', '.join(_OUTCOMES)}."))
    if not re.fullmatch(r"[0-9]{1,4}", limit) or not 1 <= int(limit) <= 1000:
        faults.append(Fault("/limit", "It is a number from 1 to 1000."))
    if before is not None and not _ID.match(before):
        faults.append(Fault("/before", "It is the 'next' of the page before."))
    since, until = (_moment(name, parameters.get(name), faults) for name in ("since", "until"))
    if faults:
        raise InvalidInput("The events that are asked for are not described well.", faults)
    return AuditQuery(
        event=parameters.get("event"),
        outcome=outcome,
        user_id=parameters.get("user"),
        request_id=parameters.get("request_id"),
        since=since,
        until=until,
        before=before,
        limit=int(limit),
    )


def _moment(name: str, text: str | None, faults: list[Fault]) -> float | None:
    """Read seconds since the epoch, an ISO 8601 time, or how long ago it was, as in ``2h``."""
    if text is None:
        return None
    try:
        if _SECONDS.match(text):
            return float(text)
        if text[-1:].isalpha() and text[:-1].strip().isascii() and text[:1].isdigit() and "T" not in text:
            return time.time() - parse_duration(text)
        found = datetime.datetime.fromisoformat(text)
        return (found if found.tzinfo is not None else found.astimezone()).timestamp()
    except (ValueError, OverflowError, OSError):
        faults.append(Fault(f"/{name}", "It is '2026-11-23T10:00Z', seconds since 1970, or how long ago: '2h', '7d'."))
        return None
