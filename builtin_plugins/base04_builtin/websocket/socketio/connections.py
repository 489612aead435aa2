"""The connections of one manager, from the first packet to the end of the transport."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

import structlog
from socketio.exceptions import ConnectionRefusedError as Refused

from base04_builtin.websocket.authentication import Authentication
from base04_builtin.websocket.codes import CloseCode, Refusal
from base04_builtin.websocket.connection import describe
from base04_builtin.websocket.socketio.engine import NAMESPACE, GuardedServer, Transport
from base04_builtin.websocket.socketio.session import Session
from base04_builtin.websocket.socketio.settings import SocketIOSettings
from base04_hookspecs import current_request
from base04_hookspecs.errors import AuthenticationError, ManagerUnavailable

_log = structlog.get_logger()

TRANSPORT: Final = "base04.socketio.transport"
TOKEN: Final = "base04.socketio.token"  # noqa: S105 - the name under which the ASGI scope has it
BUILTIN: Final = "base04.socketio.builtin"

_COMES_BACK: Final = frozenset(
    {CloseCode.SERVICE_RESTART, CloseCode.TRY_AGAIN_LATER, CloseCode.SLOW_READER, CloseCode.TOO_MANY_MESSAGES}
)
"""Codes after which the client should connect again, as its library does when the transport closes."""


class Connections:
    """Knows every Engine.IO connection, and the session of those that have said who they are."""

    def __init__(self, settings: SocketIOSettings, authentication: Authentication) -> None:
        self.by_sid: dict[str, Session] = {}
        self.slow_readers = 0
        self._settings = settings
        self._authentication = authentication
        self._server: GuardedServer
        self._scopes: dict[str, Any] = {}
        self._transports: dict[str, Transport] = {}
        self._served: set[Transport] = set()
        self._deadlines: dict[str, asyncio.TimerHandle] = {}
        self._work: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._scopes)

    def sessions(self) -> tuple[Session, ...]:
        """Return the connections that have said who they are, as of now."""
        return tuple(self.by_sid.values())

    def attach(self, server: GuardedServer) -> None:
        """Take the server whose connections these are."""
        self._server = server
        server.on("connect", self._connected)
        server.on("disconnect", self._disconnected)

    # Engine.IO

    def opened(self, eio_sid: str, scope: Any) -> None:
        """Take a connection that has not said yet who it is; it has ``auth_timeout`` to do so."""
        self._scopes[eio_sid] = scope
        self._empty.clear()
        if TRANSPORT in scope:
            self._transports[eio_sid] = scope[TRANSPORT]
        self._expect_token(eio_sid)

    @contextmanager
    def carrying(self, eio_sid: str | None) -> Iterator[Transport]:
        """Know a WebSocket while it is served, and the connection that it is to carry if that is there already."""
        transport = Transport()
        self._served.add(transport)
        self._empty.clear()
        if eio_sid in self._scopes:
            self._transports[eio_sid] = transport
        try:
            yield transport
        finally:
            self._served.discard(transport)
            self._look_whether_empty()

    def ended(self, eio_sid: str) -> None:
        """Forget a connection, and make sure that its WebSocket ends in time."""
        self._forget_deadline(eio_sid)
        transport = self._transports.pop(eio_sid, None)
        self._scopes.pop(eio_sid, None)
        if transport is not None:
            transport.abort_in(self._settings.close_timeout)
        self._look_whether_empty()

    def too_slow(self, eio_sid: str) -> None:
        """End a connection whose client reads too slowly; what waits for it is dropped."""
        sid = self._server.manager.sid_from_eio_sid(eio_sid, NAMESPACE)
        session = self.by_sid.get(sid) if sid is not None else None
        if session is not None and session.live:
            self.slow_readers += 1
            _log.warning("socketio client reads too slowly and is closed", **describe(session))
            session.close(CloseCode.SLOW_READER, "the client reads too slowly")

    # Socket.IO

    async def _connected(self, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        scope = environ["asgi.scope"]
        eio_sid: str = self._server.manager.eio_sid_from_sid(sid, NAMESPACE)
        outer = current_request()
        client = scope.get("client")
        session = Session(
            self._settings,
            sid,
            eio_sid,
            client_ip=outer.client_ip if outer is not None else (str(client[0]) if client else None),
            builtin=scope.get(BUILTIN, True),
            on_close=self._closing,
        )
        await self._identify(session, auth.get("token") if isinstance(auth, dict) else scope.get(TOKEN))
        socket = self._server.eio.sockets.get(eio_sid)
        if socket is None or socket.closed or not session.live:
            session.dispose()
            raise Refused("The connection has ended.")
        self._forget_deadline(eio_sid)
        self.by_sid[sid] = session

    async def _identify(self, session: Session, token: Any) -> None:
        try:
            if not isinstance(token, str) or not token:
                raise Refused("Connect with 'auth': {'token': ...}.", {"code": "unauthenticated"})
            await self._authentication.identify(session, token)
        except (AuthenticationError, Refusal) as exc:
            _log.info("socketio authentication failed", reason=str(exc), **describe(session))
            raise Refused("The token is not valid.", {"code": "unauthenticated"}) from exc
        except ManagerUnavailable as exc:
            details = {"code": "unavailable", "retry_after": exc.retry_after}
            raise Refused("Tokens cannot be checked just now.", details) from exc
        except Refused:
            raise
        except Exception as exc:
            _log.exception("socketio authentication broke", **describe(session))
            raise Refused("The server could not check the token.", {"code": "internal"}) from exc

    async def _disconnected(self, sid: str, reason: str) -> None:
        session = self.by_sid.pop(sid, None)
        if session is None:
            return
        session.dispose()
        if session.eio_sid in self._scopes:
            self._expect_token(session.eio_sid)

    # Closing

    def close_all(self, code: int, reason: str) -> None:
        """Close everything."""
        for session in self.sessions():
            session.close(code, reason)
        for eio_sid in tuple(self._scopes):
            self._do(self._server.end(eio_sid), "socketio close")

    async def emptied(self) -> None:
        """Return when there is no connection and no WebSocket is served."""
        await self._empty.wait()
        while self._work:
            await asyncio.wait(tuple(self._work))

    def _look_whether_empty(self) -> None:
        if not self._scopes and not self._served:
            self._empty.set()

    def _closing(self, session: Session, code: int, reason: str) -> None:
        self._do(self._close(session, code, reason), "socketio close")

    async def _close(self, session: Session, code: int, reason: str) -> None:
        if code != CloseCode.SLOW_READER:
            await self._server.emit("closing", {"code": int(code), "reason": reason}, to=session.sid, ignore_queue=True)
        transport = self._transports.get(session.eio_sid)
        if code in _COMES_BACK:
            await self._server.end(session.eio_sid)
            if code == CloseCode.SLOW_READER and transport is not None:
                transport.abort()
        else:
            await self._server.disconnect(session.sid, ignore_queue=True)
            self._expect_token(session.eio_sid, self._settings.close_timeout)

    def _expect_token(self, eio_sid: str, within_s: float | None = None) -> None:
        self._forget_deadline(eio_sid)
        if eio_sid in self._scopes:
            self._deadlines[eio_sid] = asyncio.get_running_loop().call_later(
                within_s or self._settings.auth_timeout,
                lambda: self._do(self._server.end(eio_sid), "socketio close"),
            )

    def _forget_deadline(self, eio_sid: str) -> None:
        deadline = self._deadlines.pop(eio_sid, None)
        if deadline is not None:
            deadline.cancel()

    def _do(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
