"""``GET /metrics``: what Prometheus reads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from base04.generation import Generation
from base04.http.access import demand, flag

if TYPE_CHECKING:
    from base04.app_manager import AppManager

_PERMISSION: Final = "metrics.read"
_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def routes(generation: Generation, app: AppManager) -> list[Route]:
    """Return the route; it needs the permission ``metrics.read``, unless ``server.public_metrics`` is true.

    It answers for all processes of the host, with ``own=true`` for the one that is asked alone.
    """

    async def metrics(request: Request) -> Response:
        """Show what Prometheus reads; for everybody where ``server.public_metrics`` is true."""
        if not app.settings.server.public_metrics:
            demand(request, _PERMISSION)
        from base04.metrics.exposition import exposition  # only who asks for metrics loads what writes them

        text = await asyncio.to_thread(exposition, app, generation)  # plugins may take their time
        if not flag(request, "own"):
            text = await app.whole_metrics(text)
        return Response(text, media_type=_TYPE)

    return [Route("/metrics", metrics)]
