"""``/api-keys``: create, list, look at, roll, change and revoke. Every change is in the audit log before it is told."""

from __future__ import annotations

import contextlib
from typing import Any, Final

import jsonschema_rs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from base04.generation import Generation
from base04.http.access import context_of, demand
from base04.http.body_schema import object_schema, read_described
from base04.http.json_response import SecretAnswer
from base04.http.numbers import number_in
from base04.records.audit import AuditLog
from base04_hookspecs.api_key import ApiKeyInfo, ApiKeyManager
from base04_hookspecs.context import RequestContext
from base04_hookspecs.errors import Base04Error, ManagerUnavailable, NotFound

PERMISSION: Final = "api_keys.manage"
_LONGEST_S: Final = 100 * 365 * 86400
_LONGEST_OVERLAP_S: Final = 366 * 86400


_PERMISSIONS: Final = {"type": "array", "items": {"type": "string"}}
_NEW_KEY: Final = object_schema(
    {
        "user_id": {"type": "string", "minLength": 1},
        "permissions": _PERMISSIONS,
        "name": {"type": "string"},
        "expires_in": {"type": "number", "exclusiveMinimum": 0, "maximum": _LONGEST_S},
        "rate_limit": {"type": "string"},
    },
    ["user_id"],
)
_ROLL: Final = object_schema({"overlap": {"type": "number", "minimum": 0, "maximum": _LONGEST_OVERLAP_S}}, [])
_CHANGE: Final = object_schema({"permissions": _PERMISSIONS}, ["permissions"])


def routes(generation: Generation, audit: AuditLog, max_body_bytes: int) -> list[Route]:
    """Return the routes; they need the permission ``api_keys.manage``."""
    desk = _KeyDesk(generation, audit, max_body_bytes)
    return [
        Route("/api-keys", desk.list_keys, methods=["GET"]),
        Route("/api-keys", desk.create, methods=["POST"]),
        Route("/api-keys/{key_id}", desk.show, methods=["GET"]),
        Route("/api-keys/{key_id}", desk.change, methods=["PATCH"]),
        Route("/api-keys/{key_id}", desk.revoke, methods=["DELETE"]),
        Route("/api-keys/{key_id}/roll", desk.roll, methods=["POST"]),
    ]


class _KeyDesk:
    """Manages keys with the ``api_key`` manager of one generation."""

    def __init__(self, generation: Generation, audit: AuditLog, max_body_bytes: int) -> None:
        self._generation, self._audit, self._max_body_bytes = generation, audit, max_body_bytes

    async def create(self, request: Request) -> Response:
        """Create a key and show it, this once."""
        keys = self._manager(request)
        body = await self._body(request, _NEW_KEY, "a new API key")
        user_id = body.pop("user_id")
        key = await keys.generate_api_key(user_id, body.pop("permissions", None), **body)
        return await self._handed_out(request, keys, key, "api_key.created")

    async def list_keys(self, request: Request) -> Response:
        """List keys, never the secrets in them."""
        keys = self._manager(request)
        query = request.query_params
        limit = number_in(query, "limit")
        found = await keys.list_api_keys(
            query.get("user_id"),
            limit=100 if limit is None else limit,
            offset=number_in(query, "offset") or 0,
            include_revoked=query.get("include_revoked") == "true",
        )
        return SecretAnswer({"api_keys": found})

    async def show(self, request: Request) -> Response:
        """Show what is known of a key."""
        return SecretAnswer(await self._known(self._manager(request), request))

    async def change(self, request: Request) -> Response:
        """Replace the permissions of a key."""
        keys = self._manager(request)
        before = await self._known(keys, request)
        body = await self._body(request, _CHANGE, "a change of an API key")
        if not await keys.update_api_key_permissions(before["key_id"], body["permissions"]):
            raise NotFound(f"There is no API key {before['key_id']!r}.")
        info = await keys.get_api_key_info(before["key_id"])
        details = {"permissions": info["permissions"], "instead_of": before["permissions"]}
        await _record(self._audit, "api_key.updated", info, context_of(request), **details)
        return SecretAnswer(info)

    async def roll(self, request: Request) -> Response:
        """Create a key in place of another, which goes on for ``overlap`` seconds, and show it, this once."""
        keys = self._manager(request)
        body = await self._body(request, _ROLL, "how an API key is rolled")
        old = await self._known(keys, request)
        overlap = float(body.get("overlap", 0))
        key = await keys.roll_api_key(old["key_id"], overlap=overlap)
        return await self._handed_out(request, keys, key, "api_key.rolled", replaces=old["key_id"], overlap=overlap)

    async def revoke(self, request: Request) -> Response:
        """Revoke a key, and the tokens that were had for it."""
        keys, key_id = self._manager(request), _key_id(request)
        if not await keys.revoke_api_key(key_id):
            raise NotFound(f"There is no API key {key_id!r}, or it is revoked already.")
        await self._audit.record("api_key.revoked", "success", context_of(request), key_id=key_id)
        return Response(status_code=204)

    def _manager(self, request: Request) -> ApiKeyManager:
        demand(request, PERMISSION)
        found = self._generation.find("api_key")
        if not isinstance(found, ApiKeyManager):
            raise ManagerUnavailable("No api_key manager is running.")
        return found

    async def _body(self, request: Request, validator: jsonschema_rs.Draft202012Validator, what: str) -> dict[str, Any]:
        return await read_described(request, validator, what, self._max_body_bytes)

    async def _known(self, keys: ApiKeyManager, request: Request) -> ApiKeyInfo:
        return await keys.get_api_key_info(_key_id(request))

    async def _handed_out(
        self, request: Request, keys: ApiKeyManager, key: str, event: str, **details: Any
    ) -> Response:
        """Show a new key, this once."""
        info = await written_down(key, event, keys, self._audit, context_of(request), **details)
        return SecretAnswer({"api_key": key, **info}, 201)


async def written_down(
    key: str,
    event: str,
    keys: ApiKeyManager,
    audit: AuditLog,
    context: RequestContext | None = None,
    **details: Any,
) -> ApiKeyInfo:
    """Write of a new key into the audit log; one that cannot be written there is revoked, since nobody will have it.

    Raises:
        ManagerUnavailable: it cannot be written.
    """
    info = await keys.get_api_key_info(key)
    try:
        await _record(audit, event, info, context, permissions=info["permissions"], **details)
    except BaseException:
        with contextlib.suppress(Base04Error):
            await keys.revoke_api_key(key)
        raise
    return info


async def _record(
    audit: AuditLog, event: str, info: ApiKeyInfo, context: RequestContext | None, **details: Any
) -> None:
    await audit.record(event, "success", context, key_id=info["key_id"], for_user=info["user_id"], **details)


def _key_id(request: Request) -> str:
    """Return the id from the path; a whole key does not belong there, so it is as unknown as any other text.

    Raises:
        NotFound: it is longer than an id can be.
    """
    key_id: str = request.path_params["key_id"]
    if len(key_id) > 64 or "_" in key_id:
        raise NotFound("There is no such API key: give its public id.")
    return key_id
