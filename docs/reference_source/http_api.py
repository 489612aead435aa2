"""The HTTP API: every route of the host, with the permission that a running host demands for it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import Any

import httpx2
from starlette.routing import Route

from base04 import AppManager
from base04.http.actions import ActionEndpoint
from base04.http.gate import Gate
from base04.http.problems import problem_kinds
from base04.http.stack import host_routes
from base04_hookspecs.roles import ROLES
from reference_source.page import Page, prose, table
from reference_source.running import asked

Row = tuple[str, str, str]


def page() -> Page:
    """Return the page."""
    return Page.of("reference/http.md", "HTTP API", _lines(asked(_routes)))


def _lines(routes: list[Row]) -> Iterator[str]:
    yield "The host's own routes. Who is calling is proved by `X-API-Key` or `Authorization: Bearer`: see"
    yield "[let people in](../authentication.md). Where no permission is named, everybody may ask; what is shown then"
    yield from ("can depend on who asks. Actions are described by `/openapi.json` of a running host.", "")
    yield from ("## Routes", "")
    yield from table(("route", "permission", "what it does"), routes)
    yield from ("## Sockets", "")
    paths = importlib.import_module(ROLES["websocket"].__module__).WebSocketManager.paths
    yield f"{', '.join(f'`{path}`' for path in paths)}: the sockets of the `websocket` role; see"
    yield from ("[the WebSocket protocol](../websocket.md). `/socket.io/` with the provider `socketio`.", "")
    yield from ("## Problems", "")
    yield "What goes wrong is answered as `application/problem+json` (RFC 9457), with `type`, `title`, `status`,"
    yield from ("`detail` and `request_id`. [Errors](errors.md) says which error of a plugin becomes which.", "")
    kinds = sorted({(str(status), f"`{kind}`", title) for status, kind, title in problem_kinds()})
    yield from table(("status", "type", "title"), kinds)


async def _routes(app: AppManager, client: httpx2.AsyncClient) -> list[Row]:
    """Return route, permission and meaning, as a host has them that is asked without any permission."""
    generation = app.newest
    assert generation is not None
    run = (
        (" ".join(prose(ActionEndpoint.__doc__)))
        .partition(";")[0]
        .replace("Runs", "Run")
        .replace(" for `POST /actions/{name}`", "")
    )
    found: list[Row] = [("`POST /actions/{name}`", "what the action says", f"{run}.")]
    for route in host_routes(generation, app, Gate(generation, app)):
        for method in sorted((route.methods or {"GET"}) - {"HEAD"}):
            permission = await _demanded(client, method, route)
            path = re.sub(r":\w+}", "}", route.path)
            found.append((f"`{method} {path}`", permission, _meaning(route)))
    return sorted(found, key=lambda row: (row[0].strip("`").split()[1], row[0]))


async def _demanded(client: httpx2.AsyncClient, method: str, route: Route) -> str:
    path = re.sub(r"{[^}]*}", "x", route.path)
    answer = await client.request(method, path)
    missing: Any = answer.json().get("missing", ()) if answer.status_code == 403 else ()
    return ", ".join(f"`{permission}`" for permission in missing)


def _meaning(route: Route) -> str:
    return " ".join(prose(route.endpoint.__doc__))
