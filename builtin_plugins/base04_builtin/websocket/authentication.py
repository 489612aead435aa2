"""From a token to who is calling, and whether that still holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from base04_builtin.websocket.codes import CloseCode, ConnectionEnds, Refusal
from base04_builtin.websocket.identified import Identified
from base04_hookspecs import Principal
from base04_hookspecs.errors import InvalidToken
from base04_hookspecs.jwt import JWTManager


class Authentication:
    """Checks tokens with the ``jwt`` role.

    Args:
        jwt: the manager that knows the tokens.
        interval: for how many seconds a token that was not revoked is taken not to be.
    """

    def __init__(self, jwt: JWTManager, interval: float) -> None:
        self._jwt = jwt
        self._interval = interval

    async def identify(self, connection: Identified, token: str) -> None:
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

    async def require_current(self, connection: Identified) -> None:
        """End the connection if its token has expired or is revoked; what was asked a moment ago is not asked again.

        Raises:
            ConnectionEnds: the token is not valid any more.
            ManagerUnavailable: whether it is revoked cannot be known just now.
        """
        if connection.expires_at is not None and time.time() >= connection.expires_at:
            raise ConnectionEnds(CloseCode.TOKEN_EXPIRED, "The token has expired.", error="unauthenticated")
        if not self._interval or asyncio.get_running_loop().time() - connection.checked_at >= self._interval:
            await self.ask(connection)

    async def ask(self, connection: Identified) -> None:
        """End the connection if its token is revoked.

        Raises:
            ConnectionEnds: it is.
            ManagerUnavailable: whether it is cannot be known just now.
        """
        token, now = connection.token, asyncio.get_running_loop().time()
        try:
            await self._jwt.validate_token(token)
        except InvalidToken as exc:
            if connection.token is token:  # it was not renewed meanwhile
                raise ConnectionEnds(
                    CloseCode.TOKEN_REVOKED, "The token has been revoked.", error="unauthenticated"
                ) from exc
        connection.checked_at = max(now, connection.checked_at)


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
