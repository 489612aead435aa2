"""Who is calling: ``Authorization: Bearer``, ``X-API-Key``, or what a plugin accepts."""

from __future__ import annotations

from typing import Final

from starlette.types import Scope

from base04.generation import Generation
from base04_hookspecs.api_key import ApiKeyManager
from base04_hookspecs.context import ANONYMOUS, Principal
from base04_hookspecs.errors import AuthenticationError, InvalidApiKey, InvalidInput, InvalidToken
from base04_hookspecs.host_hooks import Credentials
from base04_hookspecs.jwt import JWTManager

LOCAL_SCOPE_KEY: Final = "base04.local"
"""Set on scopes that came in through the control socket, which only the host's own user can open."""

LOCAL: Final = Principal(user_id="local", permissions=("*",), method="local")


async def authenticate(scope: Scope, generation: Generation) -> Principal:
    """Return who is calling; anonymous where nothing was shown.

    Raises:
        AuthenticationError: what was shown does not prove it.
        InvalidInput: a token and a key were shown at once (RFC 6750, section 2, allows one way a request).
    """
    if LOCAL_SCOPE_KEY in scope:
        return LOCAL
    token = key = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            token = value
        elif name == b"x-api-key":
            key = value
    if token is not None and key is not None:
        raise InvalidInput("Show either a token or an API key, not both.")
    if key is not None:
        return await _by_key(key, generation)
    if token is not None and token[:7].lower() == b"bearer ":
        return await _by_token(token[7:], generation)
    if generation.contributions.authenticate:
        return await _by_plugins(scope, generation)
    if token is not None:
        raise AuthenticationError("the authorization scheme is not Bearer")
    return ANONYMOUS


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


async def _by_plugins(scope: Scope, generation: Generation) -> Principal:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    client = scope.get("client")
    credentials = Credentials(headers, client[0] if client else None)
    for authenticator in generation.contributions.authenticate:
        principal = await authenticator(credentials)
        if principal is not None:
            return principal
    return ANONYMOUS
