"""``GET /audit``: what the audit log holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from base04.http.access import demand
from base04.http.json_response import SecretAnswer
from base04.http.page_parameters import read_before, read_choice, read_limit, read_moment, refuse_unknown
from base04.records.audit import AuditLog
from base04.records.audit_table import AuditQuery
from base04_hookspecs.errors import Fault, InvalidInput

PERMISSION: Final = "audit.read"

_PARAMETERS: Final = ("event", "outcome", "user", "request_id", "since", "until", "before", "limit")
_OUTCOMES: Final = ("success", "denied", "error")


def routes(audit: AuditLog) -> list[Route]:
    """Return the route; it needs the permission ``audit.read``."""

    async def events(request: Request) -> Response:
        """Show the audit log, newest first."""
        demand(request, PERMISSION)
        found, more = await audit.query(_query(request.query_params))
        return SecretAnswer({"events": found, "next": more})

    return [Route("/audit", events, methods=["GET"])]


def _query(parameters: Mapping[str, str]) -> AuditQuery:
    """Read the parameters.

    Raises:
        InvalidInput: with everything that is wrong with them.
    """
    faults: list[Fault] = []
    refuse_unknown(parameters, _PARAMETERS, faults)
    outcome = read_choice("outcome", parameters, _OUTCOMES, faults)
    limit, before = read_limit(parameters, faults), read_before(parameters, faults)
    since, until = (read_moment(name, parameters, faults) for name in ("since", "until"))
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
        limit=limit,
    )
