"""``/static/base04.js``: the browser's client, as it comes with this host."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PATH: Final = "/static/base04.js"


def routes() -> list[Route]:
    """Return the route of the module; it is for everybody, and browsers ask each time whether theirs is the newest."""
    body = files("base04.http").joinpath("static", "base04.js").read_bytes()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"etag": tag, "cache-control": "no-cache", "x-content-type-options": "nosniff"}

    async def module(request: Request) -> Response:
        """Give the client for browsers."""
        known = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
        if tag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type="text/javascript")

    return [Route(PATH, module)]
