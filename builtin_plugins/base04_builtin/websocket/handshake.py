"""What is decided before a connection is accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from base04_builtin.websocket.messages import SUBPROTOCOL
from base04_hookspecs.websocket import ASGIReceive, ASGIScope, ASGISend

_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_GONE_S: Final = 1.0
_BEARER: Final = "bearer."
_NEVER_IN_URL: Final = frozenset({"access_token", "token", "api_key"})


class HandshakeRefused(Exception):
    """The connection is not accepted; ``status`` is that of the HTTP response."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Handshake:
    """What the client brought. ``in_band`` tells that a refused token is to be answered after accepting.

    A browser shows its script nothing of a refused handshake, so whoever uses the subprotocol gets a close code.
    """

    subprotocol: str | None
    token: str | None
    in_band: bool


def read_handshake(scope: ASGIScope, allowed_origins: Iterable[str]) -> Handshake:
    """Check the origin of a handshake and return what it brings.

    Raises:
        HandshakeRefused: the origin is not allowed, or the credentials are not where they belong.
    """
    _check_origin(scope, allowed_origins)
    _check_url(scope)
    header = _bearer(_headers(scope, b"authorization"))
    offered: list[str] = list(scope.get("subprotocols") or ())
    tokens = [name.removeprefix(_BEARER) for name in offered if name.startswith(_BEARER)]
    if len(tokens) > 1 or (tokens and header):
        raise HandshakeRefused(400, "The handshake has more than one token: send one.")
    if tokens and SUBPROTOCOL not in offered:
        raise HandshakeRefused(400, f"A token in a subprotocol needs the subprotocol {SUBPROTOCOL!r} beside it.")
    subprotocol = SUBPROTOCOL if SUBPROTOCOL in offered else None
    return Handshake(subprotocol, tokens[0] if tokens else header, in_band=bool(tokens))


async def refuse(scope: ASGIScope, receive: ASGIReceive, send: ASGISend, refusal: HandshakeRefused) -> None:
    """Answer the handshake with a real HTTP response where the server can send one, else with its plain 403."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008, "reason": ""})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    headers += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in refusal.headers.items()]
    await send({"type": "websocket.http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": refusal.detail.encode()})
    # uvicorn 0.54 logs an error for an application that returns before the refused connection is gone, which it tells
    # by a second disconnect.
    with suppress(TimeoutError):
        async with asyncio.timeout(_GONE_S):
            for _ in range(2):
                await receive()


def client_address(scope: ASGIScope) -> str | None:
    """Return the client's address, None where the server does not know it."""
    client: Any = scope.get("client")
    return str(client[0]) if client else None


def _headers(scope: ASGIScope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope.get("headers") or () if key.lower() == name]


def _bearer(values: list[str]) -> str | None:
    if len(values) > 1:
        raise HandshakeRefused(400, "The handshake has more than one Authorization header: send one.")
    scheme, _, token = (values[0] if values else "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _check_url(scope: ASGIScope) -> None:
    query = (scope.get("query_string") or b"").decode("latin-1")
    found = sorted(_NEVER_IN_URL & {name.lower() for name, _ in parse_qsl(query, keep_blank_values=True)})
    if found:
        raise HandshakeRefused(
            400,
            f"Credentials do not belong in the URL ({', '.join(found)}), because URLs are logged: send the token as "
            "Authorization header, as subprotocol or as first message.",
        )


def _check_origin(scope: ASGIScope, allowed_origins: Iterable[str]) -> None:
    origins = _headers(scope, b"origin")
    if not origins:
        return
    origin = origins[0].lower()
    hosts = _headers(scope, b"host")
    for allowed in allowed_origins if len(origins) == 1 else ():
        if allowed in ("*", origin) or (allowed == "self" and len(hosts) == 1 and _same_host(origin, hosts[0])):
            return
    raise HandshakeRefused(403, "This origin may not connect.")


def _same_host(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
        default = _PORTS.get(parts.scheme)
        there = urlsplit(f"//{host}")
        return (
            default is not None
            and parts.hostname is not None
            and (parts.hostname, parts.port or default) == (there.hostname, there.port or default)
        )
    except ValueError:  # a port that is no number
        return False
