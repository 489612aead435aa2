"""``/state-events``: what durable callbacks have not taken in yet; parked ones are retried or dropped here."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from base04.generation import Generation
from base04.http.access import context_of, demand
from base04.http.json_response import JSONAnswer
from base04.http.numbers import number_in
from base04.http.state import state_manager
from base04.records.audit import AuditLog
from base04_hookspecs.errors import InvalidInput, NotFound
from base04_hookspecs.state import StateManager

PERMISSION: Final = "state.manage"


def routes(generation: Generation, audit: AuditLog) -> list[Route]:
    """Return the routes; they need the permission ``state.manage``."""

    def entered(request: Request) -> StateManager:
        demand(request, PERMISSION)
        return state_manager(generation)

    async def events(request: Request) -> Response:
        """List the changes that durable callbacks have not taken in."""
        states, query = entered(request), request.query_params
        limit = number_in(query, "limit", 1000)
        status: Any = query.get("status")
        found = await states.get_events(query.get("name"), status=status, limit=100 if limit is None else limit)
        return JSONAnswer({"events": found})

    async def retry(request: Request) -> Response:
        """Deliver a parked change again, to the callback ``?name=``."""
        states, name, event_id = entered(request), _name(request), request.path_params["event_id"]
        if not await states.retry_event(name, event_id):
            raise _unknown(name, event_id)
        await audit.record("state_event.retried", "success", context_of(request), callback=name, event_id=event_id)
        return Response(status_code=204)

    async def discard(request: Request) -> Response:
        """Drop a parked change of the callback ``?name=``."""
        states, name, event_id = entered(request), _name(request), request.path_params["event_id"]
        if not await states.discard_event(name, event_id):
            raise _unknown(name, event_id)
        await audit.record("state_event.discarded", "success", context_of(request), callback=name, event_id=event_id)
        return Response(status_code=204)

    async def forget(request: Request) -> Response:
        """End the durable callback ``?name=``."""
        states, name = entered(request), _name(request)
        if not await states.forget_callback(name):
            raise NotFound(f"There is no durable callback {name!r}.")
        await audit.record("state_callback.forgotten", "success", context_of(request), callback=name)
        return Response(status_code=204)

    return [
        Route("/state-events", events, methods=["GET"]),
        Route("/state-events/{event_id}/retry", retry, methods=["POST"]),
        Route("/state-events/{event_id}", discard, methods=["DELETE"]),
        Route("/state-callbacks", forget, methods=["DELETE"]),
    ]


def _name(request: Request) -> str:
    name = request.query_params.get("name")
    if not name:
        raise InvalidInput("Give the name of the durable callback: ?name=...")
    return name


def _unknown(name: str, event_id: str) -> NotFound:
    return NotFound(f"No event {event_id!r} is parked for {name!r}.")
