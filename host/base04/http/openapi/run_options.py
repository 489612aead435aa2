"""What a caller may ask of the way an action is run, and what is answered then."""

from __future__ import annotations

from typing import Any, Final

from base04.http.openapi.answers import REQUEST_ID

_KEY: Final = r"""^\s*("([ !#-\[\]-~]|\\["\\]){1,255}"|[!#-+\--:<-\[\]-~]{1,255})\s*$"""
"""A text in quotes, or one that needs none."""

RUN_PARAMETERS: Final[dict[str, Any]] = {
    "DryRun": {
        "name": "dry_run",
        "in": "query",
        "description": "Whether only to authorise and validate, and not to run the action.",
        "schema": {"type": "boolean", "default": False},
    },
    "Prefer": {
        "name": "Prefer",
        "in": "header",
        "description": "'respond-async' answers before it has run, with 'wait=5' after 5 s at the latest (RFC 7240).",
        "schema": {"type": "string"},
        "example": "respond-async",
    },
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "A request that is sent again under its key is not run again, and answered as the first time.",
        "schema": {"type": "string", "pattern": _KEY},
        "example": '"8e03978e-40d5"',
    },
}

RUN_SCHEMAS: Final[dict[str, Any]] = {
    "DryRun": {
        "type": "object",
        "description": "What is answered instead of the result where 'dry_run' is true.",
        "properties": {
            "action": {"type": "string"},
            "dry_run": {"const": True},
            "arguments": {"type": "object", "description": "With defaults filled in, and secrets concealed."},
        },
        "required": ["action", "dry_run", "arguments"],
    },
    "Execution": {
        "type": "object",
        "description": "An action that runs in the background.",
        "properties": {
            "id": {"type": "string"},
            "action": {"type": "string"},
            "status": {"type": "string"},
            "created_at": {"type": "number", "description": "Seconds since the epoch."},
        },
        "required": ["id", "action", "status"],
    },
}

ACCEPTED: Final[dict[str, Any]] = {
    "description": "The action runs in the background; 'Location' tells how it is.",
    "headers": {
        "X-Request-ID": REQUEST_ID,
        "Location": {"schema": {"type": "string"}, "description": "The path of the execution."},
        "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds after which to look."},
    },
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Execution"}}},
}
