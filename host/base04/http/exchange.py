"""One request or connection as the host's own layers see it."""

from __future__ import annotations

import re
import uuid
from typing import Final

from starlette.types import Message, Scope, Send

SCOPE_KEY: Final = "base04.exchange"

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}\Z")


class Exchange:
    """Knows the id of a request and whether it has been answered; writes the id into the answer."""

    __slots__ = ("_header", "_send", "answered", "request_id")

    def __init__(self, scope: Scope, send: Send) -> None:
        self.request_id = _request_id(scope)
        self.answered = False
        self._header = (b"x-request-id", self.request_id.encode())
        self._send = send

    async def send(self, message: Message) -> None:
        """Pass a message on to the client."""
        kind = message["type"]
        if kind == "http.response.start" or kind == "websocket.http.response.start":
            self.answered = True
            message["headers"] = [*message.get("headers", ()), self._header]
        elif kind == "websocket.accept" or kind == "websocket.close":
            self.answered = True
        await self._send(message)


def _request_id(scope: Scope) -> str:
    """Return the caller's ``X-Request-ID`` where it is harmless, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.match(value):
            return str(value, "ascii")
    return uuid.uuid4().hex
