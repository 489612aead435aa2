"""The ASGI side of the provider."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qs

import structlog

from base04_builtin.websocket.handshake import HandshakeRefused, read_handshake, refuse
from base04_builtin.websocket.socketio.connections import BUILTIN, TOKEN, TRANSPORT, Connections
from base04_builtin.websocket.socketio.engine import GuardedServer
from base04_builtin.websocket.socketio.settings import SocketIOSettings
from base04_hookspecs.websocket import ASGIReceive, ASGIScope, ASGISend

_log = structlog.get_logger()


class Serving:
    """Lets in who may come in, and hands them to python-socketio."""

    def __init__(self, settings: SocketIOSettings, server: GuardedServer, connections: Connections) -> None:
        self.accepting = False
        self.failures = 0
        self._settings = settings
        self._server = server
        self._connections = connections

    async def serve(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend, *, builtin: bool) -> None:
        """Serve a WebSocket to its end, or one request of a client that polls."""
        eio_sid = _session_of(scope)
        try:
            token = read_handshake(scope, self._settings.allowed_origins).token
            if eio_sid is None:
                self._require_room()
        except HandshakeRefused as refusal:
            _log.info("socketio connection refused", status=refusal.status, detail=refusal.detail)
            await _refuse(scope, receive, send, refusal)
            return
        scope[TOKEN], scope[BUILTIN] = token, builtin
        if scope["type"] == "websocket":
            await self._carry(eio_sid, scope, receive, send)
        else:
            await self._server.handle_request(scope, receive, send)

    async def _carry(self, eio_sid: str | None, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        with self._connections.carrying(eio_sid) as transport:
            scope[TRANSPORT] = transport
            try:
                await self._server.handle_request(scope, receive, send)
            except asyncio.CancelledError:
                if not transport.ended():
                    raise
            except Exception:  # noqa: BLE001 - the connection is over, and the log says why
                self.failures += 1
                _log.exception("socketio connection failed")
            finally:
                transport.ended()

    def _require_room(self) -> None:
        if not self.accepting:
            raise HandshakeRefused(503, "The server is not taking connections just now.", {"retry-after": "1"})
        if len(self._connections) >= self._settings.max_connections:
            raise HandshakeRefused(503, "The server has too many connections.", {"retry-after": "5"})


def _session_of(scope: ASGIScope) -> str | None:
    """Return the Engine.IO session that a request belongs to, None for a new one."""
    query = parse_qs((scope.get("query_string") or b"").decode("latin-1"))
    return query["sid"][0] if "sid" in query else None


async def _refuse(scope: ASGIScope, receive: ASGIReceive, send: ASGISend, refusal: HandshakeRefused) -> None:
    if scope["type"] == "websocket":
        if (await receive())["type"] == "websocket.connect":
            await refuse(scope, receive, send, refusal)
        return
    headers: list[Any] = [(b"content-type", b"text/plain; charset=utf-8")]
    headers += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in refusal.headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": refusal.detail.encode()})
