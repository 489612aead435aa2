"""One request or connection as the host's own layers see it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping, Sequence
from random import getrandbits
from time import time_ns
from typing import Any, Final

from starlette.types import Message, Scope, Send

from base04.http.limit_headers import limit_headers

SCOPE_KEY: Final = "base04.exchange"

_JSON: Final = (b"content-type", b"application/json")
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}\Z")


class Exchange:
    """Knows the id of a request and whether it has been answered; writes the id and the limits into the answer.

    ``fields`` are the header fields of the request, of those that come twice the last.
    """

    __slots__ = ("_send", "answered", "fields", "limits", "request_id", "status")

    def __init__(self, scope: Scope, send: Send) -> None:
        self.fields: dict[bytes, bytes] = dict(scope["headers"])
        given = self.fields.get(b"x-request-id")
        if given is not None and _REQUEST_ID.match(given):
            self.request_id = given.decode()
        else:
            # It tells requests apart, and protects nothing. It begins with the time, because an index of such ids grows
            # at its end, which costs a database half of what ids in any order would.
            self.request_id = f"{time_ns():016x}{getrandbits(64):016x}"
        self.answered = False
        self.status = 0
        self.limits: Sequence[Mapping[str, Any]] = ()
        self._send = send

    def add_limits(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Note how limits stand that apply to this request."""
        if states:
            self.limits = [*self.limits, *states] if self.limits else states

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on to the client.

        It is no coroutine function, because a room of a WebSocket manager sends very many.
        """
        kind = message["type"]
        if kind == "http.response.start" or kind == "websocket.http.response.start":
            self.answered = True
            self.status = message["status"]
            headers = [*message.get("headers", ()), (b"x-request-id", self.request_id.encode())]
            if self.limits and message["status"] != 429:  # a refusal says which limit it was, and when to come back
                headers += limit_headers(self.limits)
            message["headers"] = headers
        elif kind == "websocket.accept" or kind == "websocket.close":
            self.answered = True
        return self._send(message)

    async def answer_json(self, body: bytes) -> None:
        """Send JSON text as the answer 200."""
        self.answered = True
        self.status = 200
        identity = (b"x-request-id", self.request_id.encode())
        headers = [(b"content-length", b"%d" % len(body)), _JSON, identity]
        if self.limits:
            headers += limit_headers(self.limits)
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})
