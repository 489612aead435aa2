"""``/webhooks``: how deliveries are, and trying again."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from base04_hookspecs import require_permission
from base04_hookspecs.app import AppManager
from base04_hookspecs.errors import ManagerUnavailable
from base04_webhooks.contract import WebhooksManager
from base04_webhooks.events import webhooks_of


def webhook_routes(app: AppManager) -> Iterator[BaseRoute]:
    """Yield the routes."""

    def manager() -> WebhooksManager:
        found = webhooks_of(app)
        if found is None:
            raise ManagerUnavailable("The webhooks manager is not running.")
        return found

    async def show(request: Request) -> Response:
        require_permission("webhooks.read")
        return JSONResponse({"endpoints": await manager().status()})

    async def retry(request: Request) -> Response:
        require_permission("webhooks.write")
        return JSONResponse({"retried": await manager().retry(request.path_params["endpoint"])})

    yield Route("/webhooks", show)
    yield Route("/webhooks/{endpoint}/retry", retry, methods=["POST"])
