"""Who is calling: ``Authorization: Bearer``, ``X-API-Key``, or what a plugin accepts. Never anything in the URL."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from starlette.types import Scope

from base04.actions.limits import check_own_limits
from base04.generation import Generation
from base04.http.challenge import InvalidRequest
from base04.plugins.isolation import escapes
from base04_hookspecs.api_key import ApiKeyManager
from base04_hookspecs.context import ANONYMOUS, LOCAL, Principal
from base04_hookspecs.errors import AuthenticationError, Base04Error, InvalidApiKey, InvalidToken, NotSupported
from base04_hookspecs.host_hooks import Credentials
from base04_hookspecs.jwt import JWTManager

LOCAL_SCOPE_KEY: Final = "base04.local"
"""Set on scopes that came in through the control socket, which only the host's own user can open."""

_KNOWN: Final = 4096
_LONGEST: Final = 4096
_BEARER: Final = b"bearer"


class Shown(NamedTuple):
    """What a request shows to prove who is calling."""

    authorization: bytes | None = None
    api_key: bytes | None = None

    @property
    def token(self) -> bytes | None:
        """The Bearer token, empty where the scheme is followed by nothing."""
        scheme, _, value = (self.authorization or b"").partition(b" ")
        return value.strip() if scheme.lower() == _BEARER else None


NOTHING: Final = Shown()


def shown_by(scope: Scope) -> Shown:
    """Return what a request shows.

    Raises:
        InvalidRequest: it shows two things at once (RFC 6750, section 2, allows one).
    """
    return shown_in(dict(scope["headers"]), scope)


def shown_in(fields: Mapping[bytes, bytes], scope: Scope) -> Shown:
    """As ``shown_by``, for header fields that were looked at already."""
    authorization, api_key = fields.get(b"authorization"), fields.get(b"x-api-key")
    if authorization is None and api_key is None:
        return NOTHING
    if (authorization is not None and api_key is not None) or (
        len(fields) < len(scope["headers"])
        and sum(name == b"authorization" or name == b"x-api-key" for name, _ in scope["headers"]) > 1
    ):
        raise InvalidRequest("Show who is calling in one way: one token or one API key.")
    return Shown(authorization, api_key)


class Authentication:
    """Tells who is calling, with the managers and plugins of one generation.

    It remembers the newest tokens that were good, at most 4096, with whom they stand for. Such a token is checked at
    each use as any other, against its end and revocation; ``known`` does so before the address is limited, because a
    stranger cannot show one.
    """

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._authenticators = generation.contributions.authenticate
        self._young: dict[bytes, tuple[str, Principal]] = {}
        self._old: dict[bytes, tuple[str, Principal]] = {}

    async def identify(self, scope: Scope) -> Principal:
        """Return who a request comes from, with nothing counted; raises as ``prove`` does."""
        if is_local(scope):
            return LOCAL
        try:
            shown = shown_by(scope)
        except InvalidRequest as error:
            raise AuthenticationError(error.detail) from error
        found = None if shown.authorization is None else await self.known(shown.authorization)
        return found or await self.prove(shown, scope)

    async def known(self, header: bytes) -> Principal | None:
        """Return whom a token stands for that was good before and is now; None for everything else.

        ``header`` is the whole of ``Authorization``.

        Raises:
            ManagerUnavailable: whether it is good cannot be known.
        """
        found = self._young.get(header)
        if found is None:
            found = self._old.pop(header, None)
            if found is None:
                return None
            self._remember(header, *found)
        manager: JWTManager | None = self._generation.find("jwt")  # type: ignore[assignment]  # of that role
        if manager is None:
            return None
        token, principal = found
        try:
            if manager.is_still_valid(token):
                return principal
        except NotSupported:  # as False: it says nothing
            pass
        try:
            payload = await manager.validate_token(token)
        except InvalidToken:
            self._young.pop(header, None)
            return None
        if payload == principal.claims:
            return principal
        self._young.pop(header, None)
        return None

    async def prove(self, shown: Shown, scope: Scope) -> Principal:
        """Return who is calling; anonymous where nothing was shown.

        Raises:
            AuthenticationError: what was shown does not prove it.
            ManagerUnavailable: whether it does cannot be known.
        """
        if shown.api_key is not None:
            return await self._by_key(shown.api_key)
        token = shown.token
        if token is not None and shown.authorization is not None:
            return await self._by_token(token, shown.authorization)
        principal = await self._by_plugins(scope) if self._authenticators else None
        if principal is None and shown.authorization is not None:
            raise AuthenticationError("the authorization scheme is not Bearer, and no plugin knows it")
        return principal or ANONYMOUS

    async def _by_token(self, value: bytes, header: bytes) -> Principal:
        manager = self._generation.find("jwt")
        if not isinstance(manager, JWTManager):
            raise InvalidToken("no jwt manager is running")
        try:
            token = value.decode("ascii")
        except UnicodeDecodeError as error:
            raise InvalidToken("the token is not ASCII") from error
        principal = token_principal(await manager.validate_token(token))
        if len(header) <= _LONGEST:
            self._remember(header, token, principal)
        return principal

    def _remember(self, header: bytes, token: str, principal: Principal) -> None:
        if len(self._young) >= _KNOWN // 2:
            self._old, self._young = self._young, {}
        self._young[header] = (token, principal)

    async def _by_key(self, value: bytes) -> Principal:
        manager = self._generation.find("api_key")
        if not isinstance(manager, ApiKeyManager):
            raise InvalidApiKey("no api_key manager is running")
        try:
            info = await manager.validate_api_key(value.decode("ascii"))
        except UnicodeDecodeError as error:
            raise InvalidApiKey("the key is not ASCII") from error
        own = {} if info["rate_limit"] is None else {"rate_limit": info["rate_limit"]}
        return Principal(info["user_id"], tuple(info["permissions"]), "api_key", api_key_id=info["key_id"], claims=own)

    async def _by_plugins(self, scope: Scope) -> Principal | None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        client = scope.get("client")
        credentials = Credentials(headers, client[0] if client else None)
        for authenticator in self._authenticators:
            try:
                principal = await authenticator(credentials)
            except Base04Error:
                raise
            except BaseException as error:
                if not escapes(error):
                    self._generation.contributions.blame("authenticate", authenticator, error)
                raise
            if principal is not None:
                check_own_limits(principal)
                return principal
        return None


def token_principal(payload: dict[str, Any]) -> Principal:
    """Return whom the payload of a valid token stands for.

    Raises:
        InvalidToken: it has a limit that cannot be read.
    """
    permissions, key_id = payload.get("permissions"), payload.get("api_key_id")
    principal = Principal(
        payload["user_id"],
        tuple(item for item in permissions if isinstance(item, str)) if isinstance(permissions, list) else (),
        "token",
        api_key_id=key_id if isinstance(key_id, str) else None,
        token_id=payload.get("jti"),
        claims=MappingProxyType(payload),
    )
    check_own_limits(principal)
    return principal


def is_local(scope: Scope) -> bool:
    """Tell whether a request came in through the control socket."""
    return LOCAL_SCOPE_KEY in scope
