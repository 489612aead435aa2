"""One span for each request over HTTP, as the semantic conventions of OpenTelemetry name things."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterable
from fnmatch import translate
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from base04.http.stack import Frame, path_below_root
from base04.metrics.counts import KNOWN_METHODS
from base04.telemetry.spans import PresentSpan, sendable
from base04_hookspecs.context import RequestContext

if TYPE_CHECKING:
    from base04.app_manager import AppManager

_LONGEST: Final = 256
_ACTIONS: Final = "/actions/"
_TRACE_FIELDS: Final = (b"traceparent", b"tracestate")
_PROPAGATOR: Final = TraceContextTextMapPropagator()


class TracedFrame(Frame):
    """The outermost layer, with a span around each request. Messages of sockets have none: their actions do."""

    def __init__(
        self, app: ASGIApp, manager: AppManager, *, tracer: Tracer, exclude: Iterable[str], trusting: bool
    ) -> None:
        super().__init__(app, manager)
        self._tracer = tracer
        self._trusting = trusting
        self._excluded = re.compile("|".join(map(translate, exclude)) or r"\Zx")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        context = _context_of(scope)
        links: tuple[Link, ...] = ()
        if not self._trusting:
            context, links = None, _links_to(context)
            scope["headers"] = [field for field in scope["headers"] if field[0] not in _TRACE_FIELDS]
        if scope["type"] != "http" or self._excluded.match(path_below_root(scope)):
            await super().__call__(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in KNOWN_METHODS else "HTTP"
        answer = _Answer(send)
        server = SpanKind.SERVER
        with PresentSpan(self._tracer, method, _asked(scope), kind=server, context=context, links=links) as present:
            try:
                await super().__call__(scope, receive, answer.send)
            finally:
                if present.span.is_recording():
                    _say_how_it_ended(present, method, scope, answer)


class _Answer:
    """Notes what an answer says of itself on its way out."""

    __slots__ = ("_send", "request_id", "status")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None
        self.request_id: str | None = None

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.request_id = next(
                (value.decode() for name, value in reversed(message["headers"]) if name == b"x-request-id"), None
            )
        return self._send(message)


def _context_of(scope: Scope) -> Context | None:
    """Return the context that a request brings, None for the present one: of whoever traces around this host."""
    if trace.get_current_span().get_span_context().is_valid:
        return None
    brought = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _TRACE_FIELDS}
    context = _PROPAGATOR.extract(brought) if brought else None
    return context if trace.get_current_span(context).get_span_context().is_valid else None


def _links_to(context: Context | None) -> tuple[Link, ...]:
    return () if context is None else (Link(trace.get_current_span(context).get_span_context()),)


def _asked(scope: Scope) -> dict[str, str | int]:
    method: str = scope["method"]
    found: dict[str, str | int] = {
        "http.request.method": method,
        "url.path": sendable(scope["path"], _LONGEST),
        "url.scheme": scope.get("scheme", "http"),
        "network.protocol.version": scope.get("http_version", "1.1"),
    }
    if method not in KNOWN_METHODS:
        found |= {"http.request.method": "_OTHER", "http.request.method_original": method[:_LONGEST]}
    client, server = scope.get("client"), scope.get("server")
    if client and client[0]:
        found["client.address"] = sendable(str(client[0]), _LONGEST)
    if server and server[0]:
        found["server.address"] = server[0]
        if server[1]:
            found["server.port"] = server[1]
    agent = next((value for name, value in scope["headers"] if name == b"user-agent"), None)
    if agent is not None:
        found["user_agent.original"] = agent[:_LONGEST].decode("latin-1")
    return found


def _say_how_it_ended(present: PresentSpan, method: str, scope: Scope, answer: _Answer) -> None:
    context: RequestContext | None = scope.get("base04.context")
    user_id = context.principal.user_id if context else None
    route = _route_of(scope)
    if route is not None:
        present.span.update_name(f"{method} {route}")
    present.say(
        {
            "http.route": route,
            "http.response.status_code": answer.status,
            "base04.request_id": answer.request_id or (context.request_id if context else None),
            "base04.action": context.action if context else None,
            "user.id": user_id and sendable(user_id),
        }
    )
    if answer.status is not None and answer.status >= 500:
        present.say({"error.type": str(answer.status)})
        present.span.set_status(Status(StatusCode.ERROR))


def _route_of(scope: Scope) -> str | None:
    """Return the pattern of the path, None where nothing serves it."""
    route: Any = scope.get("route")
    if route is not None:
        pattern: str | None = getattr(route, "path", None)
        return pattern
    run = scope["method"] == "POST" and path_below_root(scope).startswith(_ACTIONS)
    return f"{_ACTIONS}{{name}}" if run else None
