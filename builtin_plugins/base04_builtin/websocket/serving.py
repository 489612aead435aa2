"""Serving one connection from its handshake to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog

from base04_builtin.callbacks import is_cancellation
from base04_builtin.websocket import messages
from base04_builtin.websocket.authentication import Authentication
from base04_builtin.websocket.codes import CloseCode, ConnectionEnds, Refusal
from base04_builtin.websocket.commands import Commands, refuse
from base04_builtin.websocket.connection import Connection, describe, serving
from base04_builtin.websocket.handshake import (
    Handshake,
    HandshakeRefused,
    client_address,
    read_handshake,
)
from base04_builtin.websocket.handshake import refuse as refuse_handshake
from base04_builtin.websocket.registry import Registry
from base04_builtin.websocket.settings import NativeSettings
from base04_hookspecs import RequestContext, current_request
from base04_hookspecs.context import use_request
from base04_hookspecs.errors import AuthenticationError, ManagerUnavailable
from base04_hookspecs.websocket import ASGIReceive, ASGIScope, ASGISend

_log = structlog.get_logger()


class Serving:
    """The ASGI side of the manager."""

    def __init__(
        self, settings: NativeSettings, registry: Registry, authentication: Authentication, commands: Commands
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._authentication = authentication
        self._commands = commands

    async def serve(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend, *, builtin: bool) -> None:
        """Serve a connection; returns when it is closed, and never raises for what the client did."""
        outer = current_request()
        connection = Connection(
            self._settings,
            send,
            client_ip=outer.client_ip if outer is not None else client_address(scope),
            builtin=builtin,
            on_slow=self._registry.count_slow_reader,
        )
        self._registry.add(connection)
        try:
            await self._live(connection, scope, receive, send)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not connection.aborted or task is None or task.uncancel() > 0:
                raise
        finally:
            self._registry.remove(connection)
            connection.dispose()

    async def _live(self, connection: Connection, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> None:
        if scope["type"] != "websocket":
            await send({"type": "http.response.start", "status": 426, "headers": [(b"upgrade", b"websocket")]})
            await send({"type": "http.response.body", "body": b"Connect with a WebSocket client."})
            return
        opening = await receive()
        if opening["type"] != "websocket.connect":
            return
        try:
            handshake = await self._shake_hands(connection, scope)
        except HandshakeRefused as refusal:
            _log.info("websocket refused", status=refusal.status, detail=refusal.detail, **describe(connection))
            await refuse_handshake(scope, receive, send, refusal)
            return
        await send({"type": "websocket.accept", "subprotocol": handshake.subprotocol})
        connection.accept()
        try:
            await self._converse(connection, handshake, receive)
        except ConnectionEnds as end:
            self._end(connection, end)
        except Exception:  # noqa: BLE001 - the server itself would end the connection without a close frame
            self._registry.failures += 1
            _log.exception("websocket connection failed", **describe(connection))
            connection.close(CloseCode.INTERNAL_ERROR, "the server failed")
        await connection.outbox.flushed()

    async def _shake_hands(self, connection: Connection, scope: ASGIScope) -> Handshake:
        handshake = read_handshake(scope, self._settings.allowed_origins)
        if not self._registry.accepting:
            raise HandshakeRefused(503, "The server is not taking connections just now.", {"retry-after": "1"})
        if len(self._registry) > self._settings.max_connections:
            raise HandshakeRefused(503, "The server has too many connections.", {"retry-after": "5"})
        if handshake.token is not None and not handshake.in_band:
            await self._identify_early(connection, handshake.token)
        if not connection.live:
            raise HandshakeRefused(503, "The server is stopping.", {"retry-after": "1"})
        return handshake

    async def _identify_early(self, connection: Connection, token: str) -> None:
        try:
            await self._authentication.identify(connection, token)
        except AuthenticationError as exc:
            _log.info("websocket authentication failed", reason=exc.reason, **describe(connection))
            raise HandshakeRefused(401, "The token is not valid.", {"www-authenticate": "Bearer"}) from exc
        except ManagerUnavailable as exc:
            retry_after = str(max(1, round(exc.retry_after)))
            raise HandshakeRefused(503, "Tokens cannot be checked just now.", {"retry-after": retry_after}) from exc
        except Exception as exc:
            _log.exception("websocket authentication broke", **describe(connection))
            raise HandshakeRefused(500, "The server could not check the token.") from exc

    async def _converse(self, connection: Connection, handshake: Handshake, receive: ASGIReceive) -> None:
        message_id: messages.MessageId = None
        if not connection.principal.authenticated:
            token = handshake.token
            if token is None:
                first = await self._first_message(connection, receive)
                if first is None:
                    return
                token, message_id = first
            await self._identify(connection, token)
        if not connection.live:
            return
        self._registry.admit(connection)
        connection.send(messages.auth_ok(connection.sid, connection.principal.user_id, message_id))
        while (frame := await receive())["type"] == "websocket.receive":
            if connection.live:
                await self._take(connection, frame)
                await connection.outbox.flushed()

    async def _first_message(
        self, connection: Connection, receive: ASGIReceive
    ) -> tuple[str, messages.MessageId] | None:
        """Return the token that the client authenticates with, None where it has gone."""
        try:
            async with asyncio.timeout(self._settings.auth_timeout):
                frame = await receive()
        except TimeoutError:
            raise ConnectionEnds(
                CloseCode.AUTHENTICATION_TIMEOUT, "No token came in time.", error="unauthenticated"
            ) from None
        if frame["type"] != "websocket.receive":
            return None
        message = messages.decode(frame, self._settings.max_message_bytes)
        token = message.get("token")
        if message.get("type") != "auth" or not isinstance(token, str):
            raise ConnectionEnds(
                CloseCode.AUTHENTICATION_FAILED,
                "The first message must be of type 'auth' and have a 'token'.",
                error="unauthenticated",
            )
        return token, messages.id_or_none(message)

    async def _identify(self, connection: Connection, token: str) -> None:
        try:
            await self._authentication.identify(connection, token)
        except AuthenticationError as exc:
            _log.info("websocket authentication failed", reason=exc.reason, **describe(connection))
            raise ConnectionEnds(
                CloseCode.AUTHENTICATION_FAILED, "The token is not valid.", error="unauthenticated"
            ) from exc
        except ManagerUnavailable as exc:
            raise ConnectionEnds(
                CloseCode.TRY_AGAIN_LATER, "Tokens cannot be checked just now.", error="unavailable"
            ) from exc

    async def _take(self, connection: Connection, frame: messages.Frame) -> None:
        wait = connection.bucket.take(asyncio.get_running_loop().time())
        if connection.bucket.overdrawn:
            raise ConnectionEnds(CloseCode.TOO_MANY_MESSAGES, "Too many messages.", error="rate_limited")
        message = messages.decode(frame, self._settings.max_message_bytes)
        connection.messages += 1
        request = RequestContext(
            request_id=f"{connection.sid}.{connection.messages}",
            principal=connection.principal,
            client_ip=connection.client_ip,
            source="websocket",
        )
        marker = serving.set(connection)
        try:
            with use_request(request):
                await self._answer(connection, message, wait)
        finally:
            serving.reset(marker)

    async def _answer(self, connection: Connection, message: Mapping[str, Any], wait: float) -> None:
        message_id = messages.id_or_none(message)
        try:
            if wait:
                raise Refusal("rate_limited", "Too many messages: this one was not acted upon.", retry_after=wait)
            await self._commands.carry_out(connection, message, messages.read_id(message))
        except ConnectionEnds:
            raise
        except asyncio.CancelledError as exc:
            if is_cancellation(exc):
                raise
            refuse(connection, message_id, RuntimeError("A handler let a cancellation out of itself."))
        except Exception as exc:  # noqa: BLE001 - refuse() logs whatever is not meant for callers
            refuse(connection, message_id, exc)

    def _end(self, connection: Connection, end: ConnectionEnds) -> None:
        _log.info("websocket closed", code=int(end.code), reason=end.reason, **describe(connection))
        if end.error is not None:
            connection.send(messages.error(None, end.error, end.reason))
        connection.close(end.code, end.reason)
