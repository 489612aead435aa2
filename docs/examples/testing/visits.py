"""A plugin that counts how often pages are visited."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from base04_hookspecs import current_request, hookimpl
from base04_hookspecs.app import AppManager
from base04_hookspecs.errors import ManagerUnavailable, PermissionDenied
from base04_hookspecs.host_hooks import LifecycleStep
from base04_hookspecs.redis import RedisManager, key_name

DAY_S = 86_400.0


async def visit(page: str, redis: RedisManager) -> int | None:
    """Count a visit, and return how many there were within a day; None while they cannot be counted."""
    try:
        return await redis.incr(key_name("visits", page), ttl=DAY_S)
    except ManagerUnavailable:
        return None


class Visits:
    """The plugin."""

    def __init__(self) -> None:
        self._app: AppManager | None = None

    async def begin(self, app: AppManager) -> None:
        """Keep the host."""
        self._app = app

    async def show(self, request: Request) -> Response:
        """Tell how often a page was visited, to those who may know."""
        context = current_request()
        if self._app is None or context is None or not context.principal.may("visits.read"):
            raise PermissionDenied("Only those with visits.read may know.", ["visits.read"])
        page = request.path_params["page"]
        return JSONResponse({"visits": await self._app.get_redis_manager().get(key_name("visits", page)) or 0})

    @hookimpl
    def startup(self) -> Iterable[LifecycleStep]:
        """Begin with the host."""
        yield self.begin

    @hookimpl
    def routes(self) -> Iterable[BaseRoute]:
        """Add GET /visits/{page}."""
        yield Route("/visits/{page}", self.show)

    @hookimpl
    def action_packs(self) -> Iterable[dict[str, Any]]:
        """Define the action `visits.visit`."""
        parameters = {"page": {"type": "string", "minLength": 1}}
        action = {"handler": visit, "access": "public", "parameters": parameters, "required": ["page"]}
        yield {"pack": "visits", "version": "1.0.0", "actions": {"visit": action}}
