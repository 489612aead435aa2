"""What a caller may ask of the way an action is run, and what is answered then."""

from __future__ import annotations

from typing import Any, Final

from base04.executions.table import FINAL, OPEN
from base04.http.openapi.answers import LIMIT_HEADERS, REQUEST_ID
from base04.http.run_options import BARE_KEY, QUOTED_KEY

_TIME: Final = {"type": ["number", "null"], "description": "Seconds since the epoch."}

EXECUTION: Final[dict[str, Any]] = {
    "type": "object",
    "description": "A run of an action that goes on, or went on, in the background.",
    "properties": {
        "id": {"type": "string"},
        "action": {"type": "string"},
        "status": {"enum": [*OPEN, *FINAL]},
        "mode": {"const": "background"},
        "user_id": {"type": ["string", "null"]},
        "source": {"type": "string"},
        "request_id": {"type": ["string", "null"]},
        "created_at": _TIME,
        "started_at": _TIME,
        "finished_at": _TIME,
        "duration": {"type": ["number", "null"], "description": "Seconds."},
        "progress": {
            "type": ["object", "null"],
            "properties": {
                "done": {"type": "number"},
                "total": {"type": ["number", "null"]},
                "message": {"type": "string"},
            },
        },
        "result": {},
        "error": {"type": ["object", "null"], "description": "The problem that a caller who waited would have got."},
        "priority": {"type": "integer"},
        "attempt": {"type": "integer"},
    },
    "required": ["id", "action", "status", "mode", "created_at"],
}
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
        "schema": {"type": "string", "pattern": rf"^\s*({QUOTED_KEY}|{BARE_KEY})\s*$"},
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
    "Execution": EXECUTION,
}

ACCEPTED: Final[dict[str, Any]] = {
    "description": "The action runs in the background; 'Location' tells how it is.",
    "headers": {
        "X-Request-ID": REQUEST_ID,
        **LIMIT_HEADERS,
        "Preference-Applied": {"schema": {"type": "string"}},
        "Location": {"schema": {"type": "string"}, "description": "The path of the execution."},
        "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds after which to look."},
    },
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Execution"}}},
}
