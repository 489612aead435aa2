"""``GET /packs``: the action packs."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from base04.generation import Generation
from base04.http.access import demand
from base04.http.json_response import JSONAnswer
from base04_hookspecs.action_discovery import ActionDiscoveryManager
from base04_hookspecs.errors import ManagerUnavailable

READ = "host.read"


def routes(generation: Generation) -> list[Route]:
    """Return the route, which needs the permission ``host.read``."""

    async def list_packs(request: Request) -> Response:
        """List the action packs: where each came from, what it needs, its permissions and all its actions."""
        demand(request, READ)
        found = generation.find("action_discovery")
        if not isinstance(found, ActionDiscoveryManager):
            raise ManagerUnavailable("No 'action_discovery' manager is running just now, so no pack can be found.")
        return JSONAnswer({"packs": await found.list_packs()})

    return [Route("/packs", list_packs)]
