"""``/managers``, ``/graph``: what runs, where it came from, and what depends on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from base04.generation import Generation
from base04.http.access import demand
from base04.http.json_response import JSONAnswer
from base04.inventory import describe_graph, describe_managers, mermaid

if TYPE_CHECKING:
    from base04.app_manager import AppManager


def routes(generation: Generation, app: AppManager) -> list[Route]:
    """Return the routes; they need the permission ``host.read``."""

    async def managers(request: Request) -> Response:
        """List the managers: provider, where it came from, health, what depends on it."""
        demand(request, "host.read")
        return JSONAnswer({"managers": describe_managers(generation.plan, generation, app.health.latest)})

    async def graph(request: Request) -> Response:
        """Show what depends on what; ``?format=mermaid`` draws it."""
        demand(request, "host.read")
        if request.query_params.get("format") == "mermaid":
            return PlainTextResponse(mermaid(generation.plan))
        return JSONAnswer(describe_graph(generation.plan))

    return [Route("/managers", managers), Route("/graph", graph)]
