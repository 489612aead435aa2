"""A Starlette application that the host joins."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from base04 import AppManager

manager = AppManager({"data_dir": "site-data"})


async def front_page(request: Request) -> Response:
    """Use a manager in a route of one's own."""
    visits = await manager.get_redis_manager().incr("visits")
    return JSONResponse({"visits": visits})


app = Starlette(routes=[Route("/", front_page)])
manager.initialize(app)

if __name__ == "__main__":
    manager.run(app, port=8000)
