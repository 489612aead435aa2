"""What the host imports: the page, and who may be where."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from base04_chat.rooms import guests_chat
from base04_hookspecs import hookimpl
from base04_hookspecs.websocket import RoomAuthorizer

_PAGE: Final = Path(__file__).parent / "page"
_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-cache",
    "x-content-type-options": "nosniff",
}


def _file(path: str, name: str, media_type: str) -> BaseRoute:
    async def page(request: Request) -> Response:
        return FileResponse(_PAGE / name, headers=_HEADERS, media_type=media_type)

    return Route(path, page)


async def _to_the_page(request: Request) -> Response:
    return RedirectResponse("chat/")


@hookimpl
def routes() -> Iterable[BaseRoute]:
    """Serve the page."""
    yield Route("/chat", _to_the_page)
    yield _file("/chat/", "index.html", "text/html")
    yield _file("/chat/chat.js", "chat.js", "text/javascript")
    yield _file("/chat/chat.css", "chat.css", "text/css")


@hookimpl
def authorize_room() -> Iterable[RoomAuthorizer]:
    """Decide for guests."""
    yield guests_chat
