"""Who is calling: ``Authorization: Bearer``, ``X-API-Key``, or what a plugin accepts."""

from __future__ import annotations

from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import Scope

from base04.generation import Generation
from base04_hookspecs.api_key import ApiKeyManager
from base04_hookspecs.context import ANONYMOUS, LOCAL, Principal
from base04_hookspecs.errors import AuthenticationError, InvalidApiKey, InvalidToken
from base04_hookspecs.host_hooks import Credentials
from base04_hookspecs.jwt import JWTManager

LOCAL_SCOPE_KEY: Final = "base04.local"
"""Set on scopes that came in through the control socket, which only the host's own user can open."""


async def authenticate(scope: Scope, generation: Generation) -> Principal:
    """Return who is calling; anonymous where nothing was shown.

    Raises:
        AuthenticationError: what was shown does not prove it.
        HTTPException: 400 where two of them were shown at once (RFC 6750, section 2, allows one).
    """
    if LOCAL_SCOPE_KEY in scope:
        return LOCAL
    token = key = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            token = _alone(value, token, key)
        elif name == b"x-api-key":
            key = _alone(value, token, key)
    if key is not None:
        return await _by_key(key, generation)
    if token is not None and token[:7].lower() == b"bearer ":
        return await _by_token(token[7:], generation)
    principal = await _by_plugins(scope, generation) if generation.contributions.authenticate else None
    if principal is None and token is not None:
        raise AuthenticationError("the authorization scheme is not Bearer, and no plugin knows it")
    return principal or ANONYMOUS


def _alone(value: bytes, *others: bytes | None) -> bytes:
    """Return one way to prove who is calling, where no other was shown."""
    if any(other is not None for other in others):
        raise HTTPException(400, "Show who is calling in one way: one token or one API key.")
    return value


async def _by_token(value: bytes, generation: Generation) -> Principal:
    manager = generation.find("jwt")
    if not isinstance(manager, JWTManager):
        raise InvalidToken("no jwt manager is running")
    try:
        payload = await manager.validate_token(value.strip().decode("ascii"))
    except UnicodeDecodeError as error:
        raise InvalidToken("the token is not ASCII") from error
    permissions = payload.get("permissions")
    granted = tuple(item for item in permissions if isinstance(item, str)) if isinstance(permissions, list) else ()
    return Principal(payload["user_id"], granted, "token", token_id=payload.get("jti"), claims=payload)


async def _by_key(value: bytes, generation: Generation) -> Principal:
    manager = generation.find("api_key")
    if not isinstance(manager, ApiKeyManager):
        raise InvalidApiKey("no api_key manager is running")
    try:
        info = await manager.validate_api_key(value.decode("ascii"))
    except UnicodeDecodeError as error:
        raise InvalidApiKey("the key is not ASCII") from error
    return Principal(info["user_id"], tuple(info["permissions"]), "api_key", api_key_id=info["key_id"])


async def _by_plugins(scope: Scope, generation: Generation) -> Principal | None:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    client = scope.get("client")
    credentials = Credentials(headers, client[0] if client else None)
    for authenticator in generation.contributions.authenticate:
        principal = await authenticator(credentials)
        if principal is not None:
            return principal
    return None
