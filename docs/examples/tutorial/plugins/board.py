"""A page that shows how many visits there were."""

from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from base04_hookspecs import hookimpl
from base04_hookspecs.app import AppManager


@hookimpl
def routes(app: AppManager) -> Iterable[BaseRoute]:
    """Add one route."""

    async def board(request: Request) -> Response:
        visits = await app.get_redis_manager().get("visits")
        return PlainTextResponse(f"Visits: {visits or 0}\n")

    yield Route("/board", board)
