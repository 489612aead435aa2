"""``/managers``, ``/graph``: what runs, where it came from, and what depends on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from base04.generation import Generation
from base04.http.access import demand
from base04.http.json_response import JSONAnswer
from base04.inventory import describe_managers
from base04_hookspecs.errors import InvalidInput

if TYPE_CHECKING:
    from base04.app_manager import AppManager


def routes(generation: Generation, app: AppManager) -> list[Route]:
    """Return the routes; they need the permission ``host.read``."""

    async def managers(request: Request) -> Response:
        """List the managers: provider, where it came from, health, what depends on it."""
        demand(request, "host.read")
        return JSONAnswer({"managers": describe_managers(generation.plan, generation, app.health.latest)})

    async def graph(request: Request) -> Response:
        """Show what depends on what; ``?format=svg`` draws it, ``mermaid`` and ``dot`` have it drawn by others."""
        demand(request, "host.read")
        from base04.graph import describe_graph  # only who asks for it loads what draws it
        from base04.graph.drawing import FORMS

        described, wanted = describe_graph(generation.plan), request.query_params.get("format", "json")
        if wanted == "json":
            return JSONAnswer(described)
        if wanted not in FORMS:
            raise InvalidInput(f"format is {wanted!r}: it is one of json, {', '.join(FORMS)}.")
        return Response(FORMS[wanted].draw(described), media_type=FORMS[wanted].media_type)

    return [Route("/managers", managers), Route("/graph", graph)]
