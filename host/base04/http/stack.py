"""The compiled ASGI application of one generation."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any, Final

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from base04.generation import Generation
from base04.http import actions, api_keys, health, inventory
from base04.http.authentication import authenticate
from base04.http.problems import internal_error, problem_of
from base04_hookspecs.context import ANONYMOUS, RequestContext, use_request
from base04_hookspecs.errors import AuthenticationError, Base04Error
from base04_hookspecs.websocket import WebSocketManager

if TYPE_CHECKING:
    from base04.app_manager import AppManager

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}\Z")

_log = structlog.get_logger()


def build_stack(generation: Generation, app: AppManager) -> ASGIApp:
    """Compile what serves a generation: the host's own layers outside, then the plugins' middleware, then dispatch."""
    stack: ASGIApp = Dispatch(generation, app)
    for middleware in reversed(generation.contributions.middleware):
        stack = middleware.cls(stack, *middleware.args, **middleware.kwargs)
    return Frame(stack)


class Frame:
    """Gives every request an id and a context, and answers what nobody else has answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        request_id = _request_id(scope)
        scope["base04.request_id"] = request_id
        header = (b"x-request-id", request_id.encode())
        answered = False

        async def send_with_id(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id if scope["type"] == "http" else send)
        except ClientDisconnect:
            return
        except Exception:
            _log.exception("a request failed", request_id=request_id, path=scope["path"])
            if answered or scope["type"] != "http":
                raise
            await internal_error(request_id)(scope, receive, send_with_id)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.match(value):
            return str(value, "ascii")
    return uuid.uuid4().hex


class Dispatch:
    """Actions first, then the host's routes, then the plugins'."""

    def __init__(self, generation: Generation, app: AppManager) -> None:
        self._generation = generation
        self._run_action = actions.ActionEndpoint(generation, app.settings.server.max_body_bytes)
        own = [*health.routes(app), *actions.routes(generation), *inventory.routes(generation, app)]
        own += api_keys.routes(generation, app.settings.server.max_body_bytes)
        self._router = Router([*own, *_plugin_routes(generation, own)], default=_no_such_path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if scope["type"] == "websocket":
            await self._serve_websocket(scope, receive, send)
            return
        context = RequestContext(scope["base04.request_id"], ANONYMOUS, _client_ip(scope), "http")
        path: str = scope["path"]
        try:
            if not path.startswith("/health/"):
                principal = await authenticate(scope, self._generation)
                if principal is not ANONYMOUS:
                    context = RequestContext(context.request_id, principal, context.client_ip, "http")
            scope["base04.context"] = context
            with use_request(context):
                if scope["method"] == "POST" and path.startswith("/actions/"):
                    answer = await self._run_action(path[9:], context, scope, receive)
                    await answer(scope, receive, send)
                else:
                    scope["app"] = self
                    await self._router(scope, receive, send)
        except (Base04Error, HTTPException) as error:
            if isinstance(error, AuthenticationError):
                _log.info("a caller was refused", reason=error.reason, client_ip=context.client_ip, path=path)
            refusal = problem_of(error, context.request_id)
            if refusal is None:
                raise
            await refusal(scope, receive, send)

    async def _serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        manager = self._generation.find("websocket")
        if scope["path"] == "/ws" and isinstance(manager, WebSocketManager):
            await manager.handle(scope, receive, send)
            return
        await self._router(scope, receive, send)


def _client_ip(scope: Scope) -> str | None:
    client = scope.get("client")
    return client[0] if client else None


async def _no_such_path(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1000, "reason": "there is nothing at this path"})
        return
    raise HTTPException(404, f"There is nothing at {scope['path']!r}.")


def _plugin_routes(generation: Generation, own: list[BaseRoute]) -> list[BaseRoute]:
    """Take the plugins' routes; one whose path is taken is refused, and both owners are named."""
    taken: dict[Any, str] = {getattr(route, "path", None): "Base04" for route in own}
    admitted = []
    for plugin, route in generation.contributions.routes:
        path = getattr(route, "path", None)
        probe: dict[str, Any] = {"type": "http", "path": path, "method": "GET", "headers": []}
        owner = taken.get(path) or ("Base04" if _covers(own, probe) else None)
        if owner is not None:
            _log.error("a plugin's route is refused, its path is taken", plugin=plugin, path=path, owner=owner)
            continue
        taken[path] = f"plugin {plugin}"
        admitted.append(route)
    return admitted


def _covers(routes: list[BaseRoute], probe: dict[str, Any]) -> bool:
    return any(isinstance(route, Route) and route.matches(probe)[0] is not Match.NONE for route in routes)
