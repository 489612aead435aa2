"""An application made by the factory, with a plugin of the program's own."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from base04 import create_app
from base04_hookspecs import hookimpl


async def version(request: Request) -> Response:
    """Tell the version."""
    return PlainTextResponse("1.0")


@hookimpl
def routes() -> Iterable[BaseRoute]:
    """Add a route."""
    yield Route("/version", version)


app = create_app({"data_dir": "site-data"}, plugins=[("site", SimpleNamespace(routes=routes))])
