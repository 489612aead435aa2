"""``/health/live``, ``/health/ready``, ``/health``: from cached probes, so that they cost nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from base04.http.access import context_of
from base04.http.json_response import JSONAnswer
from base04_hookspecs.app import ApplicationHealth

if TYPE_CHECKING:
    from base04.app_manager import AppManager


def routes(app: AppManager) -> list[Route]:
    """Return the health routes; details are for callers with the permission ``host.read``."""

    async def latest() -> ApplicationHealth:
        return app.health.latest or await app.health.probe()

    async def live(request: Request) -> Response:
        """Answer as long as the process does."""
        return JSONAnswer({"status": "alive"})

    async def ready(request: Request) -> Response:
        """Tell whether requests may be sent here; 503 while the host stops, or is unhealthy."""
        if app.draining:
            return JSONAnswer({"status": "draining"}, 503)
        status = (await latest())["status"]
        return JSONAnswer(
            {"status": "ready" if status != "unhealthy" else "unready"}, 200 if status != "unhealthy" else 503
        )

    async def health(request: Request) -> Response:
        """Tell how healthy the host is; with the permission ``host.read``, how each manager is."""
        found = app.whole_health(await latest())
        code = 503 if found["status"] == "unhealthy" else 200
        if context_of(request).principal.may("host.read"):
            return JSONAnswer(found, code)
        return JSONAnswer({"status": found["status"]}, code)

    return [Route("/health/live", live), Route("/health/ready", ready), Route("/health", health)]
