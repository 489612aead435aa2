"""What can go wrong for a client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """The base of all errors of the client.

    ::

        ClientError
        ├── Refused          the server said no, and why
        ├── NoAnswer         nothing came in time
        ├── ConnectionLost   the connection broke after the message was sent
        └── ClientClosed     the client has ended
    """


class Refused(ClientError):
    """The server refused; ``code`` and the keys of ``details`` are those of docs/websocket.md."""

    def __init__(self, code: str, message: str, details: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.code = code
        self.details = dict(details)


class NoAnswer(ClientError):
    """No answer came in time. ``sent`` tells whether the message may have been acted upon."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class ConnectionLost(ClientError):
    """The connection broke while an answer was waited for: whether it was done cannot be known."""


class ClientClosed(ClientError):
    """The client has ended; ``code`` is the close code that ended it, 1000 for ``aclose``."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
