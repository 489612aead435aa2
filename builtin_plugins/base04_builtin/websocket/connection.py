"""One connection: who it is, which rooms it is in, and how it is closed."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final

from base04_builtin.websocket.bucket import TokenBucket
from base04_builtin.websocket.codes import CloseCode
from base04_builtin.websocket.identified import Identified
from base04_builtin.websocket.messages import Frame
from base04_builtin.websocket.outbox import Outbox
from base04_builtin.websocket.settings import NativeSettings
from base04_hookspecs import ANONYMOUS, Principal
from base04_hookspecs.websocket import ASGISend, SessionInfo

serving: Final[ContextVar[Connection | None]] = ContextVar("base04_websocket_connection", default=None)
"""The connection whose message is being served."""


class Connection:
    """A client's socket, from the handshake to its end.

    Args:
        send: the ASGI ``send`` of the connection.
        client_ip: the client's address, where it is known.
        builtin: whether messages other than events with a handler are answered.
        on_slow: called once if the connection is closed because its client reads too slowly.
    """

    __slots__ = (
        "_accepted",
        "_close_frame",
        "_close_timeout",
        "_deadline",
        "_expiry",
        "_metadata",
        "_on_slow",
        "_task",
        "aborted",
        "bucket",
        "builtin",
        "calls",
        "checked_at",
        "client_ip",
        "close_code",
        "connected_at",
        "expires_at",
        "messages",
        "outbox",
        "principal",
        "rooms",
        "sid",
        "token",
    )

    def __init__(
        self,
        settings: NativeSettings,
        send: ASGISend,
        *,
        client_ip: str | None,
        builtin: bool,
        on_slow: Callable[[Connection], None],
    ) -> None:
        self.sid = secrets.token_urlsafe(16)
        self.client_ip = client_ip
        self.builtin = builtin
        self.principal: Principal = ANONYMOUS
        self.token = ""
        self.expires_at: float | None = None
        self.checked_at = 0.0
        self.connected_at = time.time()
        self.rooms: set[str] = set()
        self.calls = 0
        self.messages = 0
        self.close_code: int | None = None
        self.aborted = False
        self.bucket = TokenBucket(settings.message_rate, settings.message_burst, asyncio.get_running_loop().time())
        self.outbox = Outbox(
            send,
            max_messages=settings.send_queue_messages,
            max_bytes=settings.send_queue_bytes,
            timeout=settings.send_timeout,
            on_slow=self._too_slow,
        )
        self._metadata: dict[str, Any] | None = None
        self._accepted = False
        self._close_frame: Frame | None = None
        self._close_timeout = settings.close_timeout
        self._on_slow = on_slow
        self._task = asyncio.current_task()
        self._expiry: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def live(self) -> bool:
        """Whether nobody has asked to close it yet."""
        return self.close_code is None

    @property
    def user_id(self) -> str:
        """The id of the user; empty before there is one."""
        return self.principal.user_id or ""

    def identify(self, principal: Principal, token: str, expires_at: float | None) -> None:
        """Take who the client is from its token, and close the connection when that expires."""
        loop = asyncio.get_running_loop()
        self.principal, self.token, self.expires_at = principal, token, expires_at
        self.checked_at = loop.time()
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if expires_at is not None:
            self._expiry = loop.call_later(max(0.0, expires_at - time.time()), self.expire)

    def expire(self) -> None:
        """Close the connection because its token has expired."""
        self.close(CloseCode.TOKEN_EXPIRED, "the token has expired")

    def send(self, message: Frame) -> bool:
        """Queue a message; False where it will not be sent."""
        return self.outbox.put(message)

    def close(self, code: int, reason: str, *, discard: bool = False) -> bool:
        """Close the connection after what waits to be sent, or with ``discard`` in place of it; False if it is so."""
        if self.close_code is not None:
            return False
        self.close_code = code
        if self._expiry is not None:
            self._expiry.cancel()
        self._deadline = asyncio.get_running_loop().call_later(self._close_timeout, self.abort)
        self._close_frame = {"type": "websocket.close", "code": code, "reason": _shortened(reason)}
        if self._accepted:
            self.outbox.end(self._close_frame, discard=discard)
        return True

    def accept(self) -> None:
        """Know that the handshake is over: a close that was asked for meanwhile happens now."""
        self._accepted = True
        if self._close_frame is not None:
            self.outbox.end(self._close_frame)

    def abort(self) -> None:
        """Stop serving the connection at once."""
        if self.close_code is None:
            self.close_code = CloseCode.SERVICE_RESTART
        self.outbox.abort()
        if self._task is not None and not self.aborted:
            self.aborted = True
            self._task.cancel()

    def dispose(self) -> None:
        """Forget timers and whatever waits; nothing is sent any more."""
        if self.close_code is None:
            self.close_code = CloseCode.NORMAL
        for timer in (self._expiry, self._deadline):
            if timer is not None:
                timer.cancel()
        self._task = None
        self.outbox.abort()

    def info(self) -> SessionInfo:
        """Describe the connection."""
        return {
            "sid": self.sid,
            "user_id": self.principal.user_id,
            "rooms": sorted(self.rooms),
            "connected_at": self.connected_at,
            "client_ip": self.client_ip,
            "metadata": dict(self._metadata or {}),
        }

    def note(self, metadata: Mapping[str, Any]) -> None:
        """Remember something about the connection; None forgets a key."""
        together = {**(self._metadata or {}), **metadata}
        self._metadata = {key: value for key, value in together.items() if value is not None} or None

    def _too_slow(self) -> None:
        if self.close(CloseCode.SLOW_READER, "the client reads too slowly", discard=True):
            self._on_slow(self)


def _shortened(reason: str) -> str:
    """Cut a reason to what a close frame can carry (RFC 6455, section 5.5)."""
    return reason.encode()[:123].decode(errors="ignore")


def describe(connection: Identified) -> dict[str, Any]:
    """Return what a log line says of a connection."""
    return {"sid": connection.sid, "user_id": connection.principal.user_id, "client_ip": connection.client_ip}
