"""``GET /openapi.json`` and ``GET /docs``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from base04.generation import Generation
from base04.http.access import context_of
from base04.http.openapi.document import may_run, openapi
from base04_hookspecs.action_discovery import ActionCatalogue, ActionDiscoveryManager
from base04_hookspecs.errors import ManagerUnavailable

_KEPT: Final = 32
_PARTS: Final = (
    ("/docs", "page.html", "text/html"),
    ("/docs/page.css", "page.css", "text/css"),
    ("/docs/page.js", "page.js", "text/javascript"),
)
_PAGE_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class Documents:
    """The written documents of one catalogue, by what callers may run: few callers differ in that."""

    def __init__(self) -> None:
        self._catalogue: ActionCatalogue | None = None
        self._written: dict[tuple[str, ...], bytes] = {}

    async def of(self, manager: ActionDiscoveryManager, request: Request) -> bytes:
        """Return the document for the caller of a request."""
        catalogue = manager.catalogue()
        if catalogue is not self._catalogue:
            self._catalogue, self._written = catalogue, {}
        principal, root = context_of(request).principal, request.scope.get("root_path", "")
        actions = [action for action in catalogue if may_run(action, principal)]
        key = (root, *(action.name for action in actions))
        written = self._written.get(key)
        if written is None:
            written = orjson.dumps(openapi(actions, await manager.list_packs(), root))
            if len(self._written) >= _KEPT:
                self._written.pop(next(iter(self._written)))
            self._written[key] = written
        return written


def routes(generation: Generation) -> list[Route]:
    """Return the routes; everybody may see what they may run."""
    documents = Documents()

    async def document(request: Request) -> Response:
        """Describe the actions that the caller may run, as OpenAPI 3.1."""
        manager = generation.find("action_discovery")
        if not isinstance(manager, ActionDiscoveryManager):
            raise ManagerUnavailable("No action_discovery manager is running.")
        headers = {"cache-control": "private, no-cache", "vary": "authorization, x-api-key"}
        return Response(await documents.of(manager, request), 200, headers, "application/json")

    return [
        Route("/openapi.json", document),
        *(Route(path, _part(name, media_type)) for path, name, media_type in _PARTS),
    ]


def _part(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def part(request: Request) -> Response:
        """Show the actions that the caller may run as a page that runs them, or a part of that page."""
        content = resources.files("base04.http.docs_page").joinpath(name).read_bytes()
        return Response(content, 200, _PAGE_HEADERS, media_type)

    return part
