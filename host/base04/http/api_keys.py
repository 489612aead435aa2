"""``/api-keys``: create, list and revoke."""

from __future__ import annotations

from typing import Any, Final

import jsonschema_rs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from base04.generation import Generation
from base04.http.access import context_of, demand
from base04.http.audit import Audit
from base04.http.bodies import read_json
from base04.http.json_response import JSONAnswer
from base04_hookspecs.api_key import ApiKeyManager
from base04_hookspecs.errors import Fault, InvalidInput, ManagerUnavailable, NotFound

PERMISSION: Final = "api_keys.manage"
_LONGEST_S: Final = 100 * 365 * 86400

_NEW_KEY: Final = jsonschema_rs.Draft202012Validator(
    {
        "type": "object",
        "properties": {
            "user_id": {"type": "string", "minLength": 1},
            "permissions": {"type": "array", "items": {"type": "string"}},
            "name": {"type": "string"},
            "expires_in": {"type": "number", "exclusiveMinimum": 0, "maximum": _LONGEST_S},
            "rate_limit": {"type": "string"},
        },
        "required": ["user_id"],
        "additionalProperties": False,
    }
)


def routes(generation: Generation, audit: Audit, max_body_bytes: int) -> list[Route]:
    """Return the routes; they need the permission ``api_keys.manage``."""

    def manager(request: Request) -> ApiKeyManager:
        demand(request, PERMISSION)
        found = generation.find("api_key")
        if not isinstance(found, ApiKeyManager):
            raise ManagerUnavailable("No api_key manager is running.")
        return found

    async def create(request: Request) -> Response:
        keys = manager(request)
        body: dict[str, Any] = await read_json(request.scope, request.receive, max_body_bytes) or {}
        faults = [Fault(_pointer(item), item.message) for item in _NEW_KEY.iter_errors(body)]
        if faults:
            raise InvalidInput("The body does not describe a new API key.", faults)
        user_id = body.pop("user_id")
        key = await keys.generate_api_key(user_id, body.pop("permissions", None), **body)
        info = await keys.get_api_key_info(key)
        granted = {"key_id": info["key_id"], "for_user": info["user_id"], "permissions": info["permissions"]}
        await audit.tell("api_key.created", "success", context_of(request), **granted)
        return JSONAnswer({"api_key": key, **info}, 201)

    async def list_keys(request: Request) -> Response:
        keys = manager(request)
        query = request.query_params
        found = await keys.list_api_keys(
            query.get("user_id"),
            limit=_number(query.get("limit"), 100),
            offset=_number(query.get("offset"), 0),
            include_revoked=query.get("include_revoked") == "true",
        )
        return JSONAnswer({"api_keys": found})

    async def revoke(request: Request) -> Response:
        keys, key_id = manager(request), request.path_params["key_id"]
        if not await keys.revoke_api_key(key_id):
            raise NotFound(f"There is no API key {key_id!r}, or it is revoked already.")
        await audit.tell("api_key.revoked", "success", context_of(request), key_id=key_id)
        return Response(status_code=204)

    return [
        Route("/api-keys", list_keys, methods=["GET"]),
        Route("/api-keys", create, methods=["POST"]),
        Route("/api-keys/{key_id}", revoke, methods=["DELETE"]),
    ]


def _pointer(error: jsonschema_rs.ValidationError) -> str:
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in error.instance_path)
    return "".join(f"/{part}" for part in parts)


def _number(text: str | None, default: int) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 10_000):
        raise InvalidInput(f"{text!r} is not a number from 0 to 10000.", [Fault("", "limit and offset are numbers.")])
    return int(text)
