"""Close codes, and what ends a connection."""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class CloseCode(IntEnum):
    """Why the server closes a connection (RFC 6455, section 7.4; 4000 and above are the application's own)."""

    NORMAL = 1000
    UNSUPPORTED_DATA = 1003
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    INVALID_MESSAGE = 4400
    AUTHENTICATION_FAILED = 4401
    AUTHENTICATION_TIMEOUT = 4408
    TOKEN_EXPIRED = 4410
    TOKEN_REVOKED = 4411
    SLOW_READER = 4420
    TOO_MANY_MESSAGES = 4429


class ConnectionEnds(Exception):
    """The connection cannot go on: tell the client why, where ``error`` is the name of an error, then close it."""

    def __init__(self, code: CloseCode, reason: str, *, error: str | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.error = error


class Refusal(Exception):
    """The client asked for something that it does not get; the connection goes on."""

    def __init__(self, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
