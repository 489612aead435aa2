"""The compiled ASGI application of one generation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import lru_cache
from time import perf_counter
from typing import TYPE_CHECKING, Final

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from base04.actions.limits import ADDRESS
from base04.generation import Generation
from base04.http import (
    actions,
    api_keys,
    audit_events,
    client_module,
    executions,
    health,
    inventory,
    metrics,
    modules,
    packs,
    state,
    state_events,
    tokens,
)
from base04.http.exchange import SCOPE_KEY, Exchange
from base04.http.gate import Gate
from base04.http.openapi import routes as openapi_routes
from base04.http.plugin_parts import PluginMiddleware, PluginRoutes
from base04.http.problems import internal_error, problem_of, respond, stopping
from base04.plugins.isolation import escapes
from base04.telemetry.origin import forget_origin, note_origin
from base04_hookspecs.context import ANONYMOUS, RequestContext, use_request
from base04_hookspecs.errors import Base04Error
from base04_hookspecs.websocket import WebSocketManager

if TYPE_CHECKING:
    from base04.app_manager import AppManager

PLUGIN_KEY: Final = "base04.plugins.plugin"
"""Set on scopes whose route of a plugin has failed: the plugin's name."""

_ACTIONS: Final = "/actions/"
_GROUPS: Final = frozenset(
    {"actions", "api-keys", "audit", "auth", "docs", "executions", "graph", "health", "managers", "metrics", "modules"}
    | {"openapi.json", "packs", "reload", "state", "state-callbacks", "state-events", "static", ".well-known"}
)

_log = structlog.get_logger()


def build_stack(generation: Generation, app: AppManager) -> ASGIApp:
    """Compile what serves a generation: the host's own layers outside, then the plugins' middleware, then dispatch."""
    frame = Frame if app.telemetry is None else app.telemetry.frame
    middleware = PluginMiddleware(Dispatch(generation, app), generation.contributions)
    made = frame(middleware.app, app)
    made.blame = middleware.blame
    return made


class Frame:
    """Gives every request an id, and answers what nobody else has answered."""

    def __init__(self, app: ASGIApp, manager: AppManager) -> None:
        self._app, self._manager, self._answered = app, manager, manager.counts.answered
        self.blame: Callable[[BaseException], str] = _nobodys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        exchange = scope[SCOPE_KEY] = Exchange(scope, send)
        origin = note_origin((exchange.request_id, exchange.fields.get(b"traceparent")))
        began = perf_counter()
        try:
            await self._app(scope, receive, exchange.send)
        except ClientDisconnect:
            return
        except asyncio.CancelledError:
            if exchange.answered or not self._manager.draining:
                raise
            # The host's own server does not wait any longer, and above this there is nobody but that server.
            await respond(stopping(exchange.request_id), scope, receive, exchange.send)
        except BaseException as error:
            if escapes(error):
                raise
            answer = problem_of(error, exchange.request_id) if isinstance(error, Exception) else None
            if answer is None or exchange.answered:
                plugin = self.blame(error) or scope.get(PLUGIN_KEY)
                whose = {"plugin": plugin} if plugin else {}
                _log.exception("a request failed", request_id=exchange.request_id, path=scope["path"], **whose)
            if exchange.answered:
                raise
            await respond(answer or internal_error(exchange.request_id), scope, receive, exchange.send)
        finally:
            if scope["type"] == "http":
                path = path_below_root(scope) if scope.get("root_path") else scope["path"]
                self._answered(_route_of(path), scope["method"], exchange.status, perf_counter() - began)
            # The server's send knows the scope: without this every request would be left to the garbage collector.
            scope.pop(SCOPE_KEY, None)
            forget_origin(origin)


def _nobodys(error: BaseException) -> str:
    return ""


@lru_cache(maxsize=1024)
def _route_of(path: str) -> str:
    """Return the group of routes that a path belongs to, for counting: never what a client can make up."""
    head = path.split("/", 2)[1]
    return head if head in _GROUPS else "other"


def host_routes(generation: Generation, app: AppManager, gate: Gate) -> list[Route]:
    """Return the host's own routes, but ``POST /actions/{name}``, which is served ahead of them."""
    limit = app.settings.server.max_body_bytes
    return [
        *health.routes(app),
        *actions.routes(generation),
        *packs.routes(generation),
        *inventory.routes(generation, app),
        *modules.routes(generation, app),
        *metrics.routes(generation, app),
        *tokens.routes(generation, gate, app.audit, limit),
        *executions.routes(generation, app),
        *api_keys.routes(generation, app.audit, limit),
        *audit_events.routes(app.audit),
        *state.routes(generation, app, limit),
        *state_events.routes(generation, app.audit),
        *openapi_routes.routes(generation),
        *client_module.routes(),
    ]


class Dispatch:
    """Actions first, then the host's routes, then the plugins'."""

    def __init__(self, generation: Generation, app: AppManager) -> None:
        self._generation = generation
        self._gate = Gate(generation, app)
        self._wrapped = bool(generation.contributions.middleware)
        websocket = generation.find("websocket")
        sockets = websocket.paths if isinstance(websocket, WebSocketManager) else ()
        self._below = tuple(place for place in sockets if place.endswith("/"))
        self._run_action = actions.ActionEndpoint(generation, self._gate, app)
        own = host_routes(generation, app, self._gate)
        self._plugins = PluginRoutes(generation.contributions, own)
        self._router = Router([*own, *self._plugins.admitted], default=_no_such_path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        exchange: Exchange = scope[SCOPE_KEY]
        if self._wrapped:  # a plugin's middleware may have changed them
            exchange.fields = dict(scope["headers"])
        client = scope.get("client")
        client_ip: str | None = (client[0] or None) if client else None
        path: str = path_below_root(scope) if scope.get("root_path") else scope["path"]
        try:
            if scope["type"] == "websocket" or path.startswith(self._below):
                await self._serve_websocket(path, client_ip, exchange, scope, receive, send)
                return
            principal, levels = await self._gate.enter(client_ip, scope, exchange, path)
            if path.startswith(_ACTIONS) and scope["method"] == "POST":
                name = path[len(_ACTIONS) :]
                answer = await self._run_action(name, principal, client_ip, levels, exchange, scope, receive)
                if isinstance(answer, bytes):
                    await (_send_json(answer, send) if self._wrapped else exchange.answer_json(answer))
                else:
                    await answer(scope, receive, send)
                return
            context = RequestContext(exchange.request_id, principal, client_ip, "http")
            scope.setdefault("app", self)  # Starlette's routes raise their 405 only within an application
            await self._route(context, levels, exchange, path, scope, receive, send)
        except (Base04Error, HTTPException) as error:
            context = scope.get("base04.context") or RequestContext(exchange.request_id, ANONYMOUS, client_ip, "http")
            self._gate.note_refusal(error, context, path)
            refusal = (
                None if exchange.answered else problem_of(self._with_all_methods(error, scope), exchange.request_id)
            )
            if refusal is None:
                raise
            await respond(refusal, scope, receive, send)

    async def _route(
        self,
        context: RequestContext,
        levels: Sequence[str],
        exchange: Exchange,
        path: str,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        scope["base04.context"] = context
        with use_request(context):
            await self._gate.count(levels, context, exchange, path)
            try:
                await self._router(scope, receive, send)
            except (Base04Error, HTTPException, ClientDisconnect):
                raise
            except BaseException as error:
                if not escapes(error):
                    plugin = self._plugins.blame(scope["type"], scope.get("method", "GET"), path, error)
                    scope[PLUGIN_KEY] = plugin
                raise

    async def _serve_websocket(
        self, path: str, client_ip: str | None, exchange: Exchange, scope: Scope, receive: Receive, send: Send
    ) -> None:
        manager = self._generation.find("websocket")
        if isinstance(manager, WebSocketManager) and (path in manager.paths or path.startswith(self._below)):
            context = RequestContext(exchange.request_id, ANONYMOUS, client_ip, "http")
            await self._gate.count(ADDRESS, context, exchange, path)
            await manager.handle(scope, receive, send)
            return
        principal, levels = await self._gate.enter(client_ip, scope, exchange, path)
        context = RequestContext(exchange.request_id, principal, client_ip, "http")
        await self._route(context, levels, exchange, path, scope, receive, send)

    def _with_all_methods(self, error: Exception, scope: Scope) -> Exception:
        """Complete a 405: Starlette's ``Allow`` names the methods of one route, and a path may have several."""
        if not isinstance(error, HTTPException) or error.status_code != 405:
            return error
        found = [route for route in self._router.routes if isinstance(route, Route)]
        methods = {
            method for route in found if route.matches(scope)[0] is Match.PARTIAL for method in route.methods or ()
        }
        if path_below_root(scope).startswith(_ACTIONS):
            methods.add("POST")
        allow = ", ".join(sorted(methods))
        detail = f"{scope['method']} is not a method of this path, which has {allow}."
        return HTTPException(405, detail, {**(error.headers or {}), "Allow": allow})


async def _send_json(body: bytes, send: Send) -> None:
    """Send JSON text as the answer 200."""
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def path_below_root(scope: Scope) -> str:
    """Return the path without the prefix under which the application is served (ASGI's ``root_path``)."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


async def _no_such_path(scope: Scope, receive: Receive, send: Send) -> None:
    raise HTTPException(404, f"There is nothing at {scope['path']!r}.")
