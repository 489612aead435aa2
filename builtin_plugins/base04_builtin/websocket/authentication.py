"""From a token to who is calling, and whether that still holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from base04_builtin.websocket.codes import CloseCode, ConnectionEnds, Refusal
from base04_builtin.websocket.connection import Connection, describe
from base04_hookspecs import Principal
from base04_hookspecs.errors import InvalidToken, ManagerUnavailable
from base04_hookspecs.jwt import JWTManager

_log = structlog.get_logger()


class Authentication:
    """Checks tokens with the ``jwt`` role.

    Args:
        jwt: the manager that knows the tokens.
        interval: for how many seconds a token that was not revoked is taken not to be.
    """

    def __init__(self, jwt: JWTManager, interval: float) -> None:
        self._jwt = jwt
        self._interval = interval

    async def identify(self, connection: Connection, token: str) -> None:
        """Make the connection that of the token's user, or renew its token if it is that user's already.

        Raises:
            InvalidToken: the token is not valid now.
            Refusal: the token belongs to another user.
            ManagerUnavailable: whether it is valid cannot be known just now.
        """
        if not token.isascii():
            raise InvalidToken("the token is not ASCII")
        claims = await self._jwt.validate_token(token)
        principal = _principal(claims)
        before = connection.principal
        if before.authenticated and before.user_id != principal.user_id:
            raise Refusal("forbidden", "A connection keeps its user: connect anew to become another one.")
        connection.identify(principal, token, _expiry(claims))

    async def require_current(self, connection: Connection) -> None:
        """End the connection if its token has expired or is revoked; what was asked a moment ago is not asked again.

        Raises:
            ConnectionEnds: the token is not valid any more.
            ManagerUnavailable: whether it is revoked cannot be known just now.
        """
        if connection.expires_at is not None and time.time() >= connection.expires_at:
            raise ConnectionEnds(CloseCode.TOKEN_EXPIRED, "The token has expired.", error="unauthenticated")
        now = asyncio.get_running_loop().time()
        if self._interval and now - connection.checked_at < self._interval:
            return
        token = connection.token
        if await self._jwt.is_token_blacklisted(token) and connection.token is token:
            raise ConnectionEnds(CloseCode.TOKEN_REVOKED, "The token has been revoked.", error="unauthenticated")
        connection.checked_at = now

    async def sweep(self, connections: Iterable[Connection]) -> None:
        """Close the connections whose token has expired or is revoked, those included that send nothing."""
        for connection in connections:
            if not connection.live:
                continue
            try:
                await self.require_current(connection)
            except ConnectionEnds as end:
                _log.info("websocket closed", code=int(end.code), reason=end.reason, **describe(connection))
                connection.close(end.code, end.reason)
            except ManagerUnavailable as exc:
                _log.warning("websocket tokens cannot be checked for revocation", error=str(exc))
                return


def _principal(claims: Mapping[str, Any]) -> Principal:
    user_id = claims.get("user_id")
    if not isinstance(user_id, str) or not user_id:
        raise InvalidToken("the token names no user")
    permissions = claims.get("permissions")
    jti = claims.get("jti")
    return Principal(
        user_id=user_id,
        permissions=tuple(p for p in permissions if isinstance(p, str))
        if isinstance(permissions, list | tuple)
        else (),
        method="token",
        token_id=jti if isinstance(jti, str) else None,
        claims=claims,
    )


def _expiry(claims: Mapping[str, Any]) -> float | None:
    exp = claims.get("exp")
    return float(exp) if isinstance(exp, int | float) else None
