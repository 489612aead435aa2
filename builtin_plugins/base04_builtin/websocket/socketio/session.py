"""One client that has said who it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final

from base04_builtin.websocket.bucket import TokenBucket
from base04_builtin.websocket.codes import CloseCode
from base04_builtin.websocket.socketio.settings import SocketIOSettings
from base04_hookspecs import ANONYMOUS, Principal

serving: Final[ContextVar[Session | None]] = ContextVar("base04_socketio_session", default=None)
"""The session whose event is being served."""

OnClose = Callable[["Session", int, str], None]


class Session:
    """A client's connection to the namespace ``/``.

    Args:
        on_close: called once, when somebody wants it closed, with the code and the reason.
    """

    __slots__ = (
        "_expiry",
        "_on_close",
        "bucket",
        "builtin",
        "calls",
        "checked_at",
        "client_ip",
        "close_code",
        "connected_at",
        "eio_sid",
        "expires_at",
        "messages",
        "metadata",
        "principal",
        "sid",
        "token",
    )

    def __init__(
        self,
        settings: SocketIOSettings,
        sid: str,
        eio_sid: str,
        *,
        client_ip: str | None,
        builtin: bool,
        on_close: OnClose,
    ) -> None:
        self.sid = sid
        self.eio_sid = eio_sid
        self.client_ip = client_ip
        self.builtin = builtin
        self.principal: Principal = ANONYMOUS
        self.token = ""
        self.expires_at: float | None = None
        self.checked_at = 0.0
        self.connected_at = time.time()
        self.calls = 0
        self.messages = 0
        self.metadata: dict[str, Any] = {}
        self.close_code: int | None = None
        self.bucket = TokenBucket(settings.message_rate, settings.message_burst, asyncio.get_running_loop().time())
        self._on_close = on_close
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def live(self) -> bool:
        """Whether nobody has asked to close it yet."""
        return self.close_code is None

    def identify(self, principal: Principal, token: str, expires_at: float | None) -> None:
        """Take who the client is from its token, and close the connection when that expires."""
        loop = asyncio.get_running_loop()
        self.principal, self.token, self.expires_at = principal, token, expires_at
        self.checked_at = loop.time()
        self._forget_expiry()
        if expires_at is not None:
            self._expiry = loop.call_later(
                max(0.0, expires_at - time.time()), self.close, CloseCode.TOKEN_EXPIRED, "the token has expired"
            )

    def note(self, metadata: Mapping[str, Any]) -> None:
        """Remember something about the connection; None forgets a key."""
        together = {**self.metadata, **metadata}
        self.metadata = {key: value for key, value in together.items() if value is not None}

    def close(self, code: int, reason: str) -> bool:
        """Ask for the connection to be closed; False if somebody has."""
        if self.close_code is not None:
            return False
        self.close_code = code
        self._forget_expiry()
        self._on_close(self, code, reason)
        return True

    def dispose(self) -> None:
        """Know that the connection has ended."""
        if self.close_code is None:
            self.close_code = CloseCode.NORMAL
        self._forget_expiry()

    def _forget_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
