"""What the host imports."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from base04_hookspecs import hookimpl


async def hello(request: Request) -> Response:
    """Say hello."""
    return JSONResponse({"message": "Hello!"})


@hookimpl
def routes() -> Iterable[BaseRoute]:
    """Add one route."""
    yield Route("/hello", hello)
