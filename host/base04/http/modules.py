"""``/modules``, ``/reload``: what plugins there are, and changes while the host runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from base04.generation import Generation
from base04.http.access import demand, flag
from base04.http.json_response import JSONAnswer
from base04_hookspecs.errors import ManagerUnavailable
from base04_hookspecs.module import ModuleManager

if TYPE_CHECKING:
    from base04.app_manager import AppManager

READ, MANAGE = "host.read", "host.manage"


def routes(generation: Generation, app: AppManager) -> list[Route]:
    """Return the routes; looking needs the permission ``host.read``, changing ``host.manage``."""

    def manager() -> ModuleManager:
        found = generation.find("module")
        if not isinstance(found, ModuleManager):
            raise ManagerUnavailable("No module manager is running.")
        return found

    async def list_modules(request: Request) -> Response:
        """List the plugins, with what they provide now."""
        demand(request, READ)
        found = generation.find("module")
        listed = await found.list_modules() if isinstance(found, ModuleManager) else app.list_plugins()
        return JSONAnswer({"modules": listed})

    async def inspect(request: Request) -> Response:
        """Show what a plugin contributes, and how it is."""
        demand(request, READ)
        name = request.path_params["name"]
        module = await manager().get_module(name)
        return JSONAnswer({**module, "health": await manager().get_module_health(name)})

    def answer(changed: bool) -> Response:
        return JSONAnswer({"changed": changed, **app.convergence()})

    async def enable(request: Request) -> Response:
        """Let a plugin take part, at once and after restarts."""
        demand(request, MANAGE)
        return answer(await manager().enable_module(request.path_params["name"]))

    async def disable(request: Request) -> Response:
        """Take a plugin out, at once and after restarts; ``?swap=true`` where it provides a manager."""
        demand(request, MANAGE)
        swap = flag(request, "swap")
        return answer(await manager().disable_module(request.path_params["name"], swap=swap))

    async def reload_module(request: Request) -> Response:
        """Read everything anew, and renew what a plugin provides."""
        demand(request, MANAGE)
        return answer(await manager().reload_module(request.path_params["name"]))

    async def reload(request: Request) -> Response:
        """Read settings, plugins and packs anew; ``?dry_run=true`` only says what would change."""
        demand(request, MANAGE)
        return JSONAnswer({**await app.reload(dry_run=flag(request, "dry_run")), **app.convergence()})

    return [
        Route("/modules", list_modules),
        Route("/modules/{name}", inspect),
        Route("/modules/{name}/enable", enable, methods=["POST"]),
        Route("/modules/{name}/disable", disable, methods=["POST"]),
        Route("/modules/{name}/reload", reload_module, methods=["POST"]),
        Route("/reload", reload, methods=["POST"]),
    ]
