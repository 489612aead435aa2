"""``/auth/token``, ``refresh``, ``logout``, ``revoke``, ``introspect``, and ``/.well-known/jwks.json``."""

from __future__ import annotations

import time
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from base04.generation import Generation
from base04.http.access import context_of, demand
from base04.http.authentication import shown_by
from base04.http.bodies import read_fields
from base04.http.challenge import OAuthError
from base04.http.gate import Gate
from base04.http.json_response import JSONAnswer, SecretAnswer
from base04.records.audit import AuditLog
from base04_hookspecs.context import Principal, RequestContext
from base04_hookspecs.errors import AuthenticationError, InvalidInput, InvalidToken, ManagerUnavailable
from base04_hookspecs.jwt import JWTManager, TokenPair

INTROSPECT: Final = "tokens.introspect"

_KEYS_AGE_S: Final = 60
_NO_STORE: Final = {"cache-control": "no-store"}


def routes(generation: Generation, gate: Gate, audit: AuditLog, max_body_bytes: int) -> list[Route]:
    """Return the routes."""
    desk = _TokenDesk(generation, gate, audit, max_body_bytes)
    return [
        Route("/auth/token", desk.issue, methods=["POST"]),
        Route("/auth/refresh", desk.refresh, methods=["POST"]),
        Route("/auth/logout", desk.log_out, methods=["POST"]),
        Route("/auth/revoke", desk.revoke, methods=["POST"]),
        Route("/auth/introspect", desk.introspect, methods=["POST"]),
        Route("/.well-known/jwks.json", desk.keys, methods=["GET"]),
    ]


class _TokenDesk:
    """Gives out tokens and takes them back, with the ``jwt`` manager of one generation."""

    def __init__(self, generation: Generation, gate: Gate, audit: AuditLog, max_body_bytes: int) -> None:
        self._generation, self._gate, self._audit = generation, gate, audit
        self._max_body_bytes = max_body_bytes

    async def issue(self, request: Request) -> Response:
        """Give tokens for an API key, or for what a plugin accepts; or new ones for a refresh token."""
        fields = await self._fields(request)
        grant = fields.get("grant_type", "client_credentials")
        if grant == "refresh_token":
            return await self._refreshed(request, fields)
        if grant != "client_credentials":
            raise OAuthError("unsupported_grant_type", "The grant_type is client_credentials or refresh_token.")
        context = context_of(request)
        principal = context.principal
        if principal.method == "token":
            raise OAuthError("invalid_request", "An access token cannot be exchanged: use its refresh token.")
        if principal.method not in ("api_key", "plugin") or principal.user_id is None:
            raise AuthenticationError("no credentials that tokens can be had for were shown")
        answer = await self._pair_for(principal, principal.user_id)
        payload = await self._manager.validate_token(answer["access_token"])
        details = {"token_id": payload.get("jti"), "expires_at": payload["exp"], "method": principal.method}
        if principal.api_key_id is not None:
            details["key_id"] = principal.api_key_id
        await self._audit.record("token.issued", "success", context, **details)
        return SecretAnswer({**answer, "expires_in": max(0, int(payload["exp"] - time.time()))})

    async def refresh(self, request: Request) -> Response:
        """Give a new pair for a refresh token."""
        return await self._refreshed(request, await self._fields(request))

    async def log_out(self, request: Request) -> Response:
        """Revoke the token that was used, and the family of a refresh token where one is given."""
        context = context_of(request)
        header = shown_by(request.scope).token
        if not context.principal.authenticated or header is None or context.principal.method != "token":
            raise AuthenticationError("a logout needs the access token that is to end")
        fields = await self._fields(request)
        family = _text(fields, "refresh_token") if "refresh_token" in fields else None
        await self._revoked(context, header.decode("ascii"), "logout")
        if family is not None:
            await self._revoked(context, family, "logout")
        return Response(status_code=204, headers=_NO_STORE)

    async def revoke(self, request: Request) -> Response:
        """Revoke a token; that it cannot be used is all that is said, whatever it was (RFC 7009, section 2.2)."""
        token = _text(await self._fields(request), "token")
        await self._revoked(context_of(request), token, "revoke")
        return Response(status_code=200, headers=_NO_STORE)

    async def introspect(self, request: Request) -> Response:
        """Tell what an access token says, where it is valid now (RFC 7662); nothing of any other."""
        demand(request, INTROSPECT)
        token = _text(await self._fields(request), "token")
        try:
            payload = await self._manager.validate_token(token)
        except InvalidToken:
            return SecretAnswer({"active": False})
        permissions = payload.get("permissions")
        granted = " ".join(item for item in permissions if isinstance(item, str)) if permissions else ""
        whole = {name: int(payload[name]) for name in ("exp", "iat", "nbf") if name in payload}
        return SecretAnswer({**payload, **whole, "active": True, "token_type": "Bearer", "scope": granted})

    async def keys(self, request: Request) -> Response:
        """Give the public keys; they are published for longer than this before they sign."""
        found = await self._manager.get_jwks()
        return JSONAnswer(found, headers={"cache-control": f"public, max-age={_KEYS_AGE_S}"})

    @property
    def _manager(self) -> JWTManager:
        found = self._generation.find("jwt")
        if not isinstance(found, JWTManager):
            raise ManagerUnavailable("No jwt manager is running.")
        return found

    async def _fields(self, request: Request) -> dict[str, Any]:
        try:
            return await read_fields(request.scope, request.receive, self._max_body_bytes)
        except InvalidInput as error:
            raise OAuthError("invalid_request", str(error)) from error
        except HTTPException as error:
            if error.status_code != 400:
                raise
            raise OAuthError("invalid_request", error.detail) from error

    async def _pair_for(self, principal: Principal, user_id: str) -> dict[str, Any]:
        """Return new tokens. Without a source that a refresh could ask for permissions there is no refresh token."""
        source = principal.claims.get("source")
        if principal.api_key_id is not None:
            source = f"api_key:{principal.api_key_id}"
        if isinstance(source, str):
            first = await self._manager.create_refresh_token(user_id, source=source)
            return dict(await self._manager.refresh_token(first))
        claims: dict[str, Any] = {"permissions": list(principal.permissions)}
        if "rate_limit" in principal.claims:
            claims["rate_limit"] = principal.claims["rate_limit"]
        return {"access_token": await self._manager.create_access_token(user_id, claims), "token_type": "Bearer"}

    async def _refreshed(self, request: Request, fields: dict[str, Any]) -> Response:
        context = context_of(request)
        token = _text(fields, "refresh_token")
        try:
            pair: TokenPair = await self._manager.refresh_token(token)
            payload = await self._manager.validate_token(pair["access_token"])
        except InvalidToken as error:
            await self._gate.charge(context.client_ip, request.scope["path"])
            self._gate.note_refusal(error, context, request.scope["path"])
            raise OAuthError("invalid_grant", str(error)) from error
        details = {"for_user": payload["user_id"], "token_id": payload.get("jti"), "expires_at": payload["exp"]}
        await self._audit.record("token.refreshed", "success", context, **details)
        return SecretAnswer(pair)

    async def _revoked(self, context: RequestContext, token: str, way: str) -> None:
        if not await self._manager.blacklist_token(token):
            return
        await self._audit.record("token.revoked", "success", context, way=way)


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise OAuthError("invalid_request", f"The body needs the field {name!r}, a text that is not empty.")
    return value
