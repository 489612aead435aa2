"""What a request to run an action can ask for beside its arguments, as parts of an OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

from base04.executions.table import FINAL, OPEN
from base04.http.openapi.answers import LIMIT_HEADERS, REQUEST_ID
from base04.http.run_options import BARE_KEY, QUOTED_KEY

RUN_PARAMETERS: Final[list[dict[str, Any]]] = [
    {
        "name": "Prefer",
        "in": "header",
        "description": "RFC 7240: 'respond-async' for an answer before the action has run, 'wait=5' to wait so long.",
        "schema": {"type": "string"},
        "examples": {"background": {"value": "respond-async"}, "patient": {"value": "respond-async, wait=5"}},
    },
    {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "One text in quotes. Requests with the same one are run once, and answered alike.",
        "schema": {"type": "string", "pattern": f"^({QUOTED_KEY}|{BARE_KEY})$"},
    },
]

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

ACCEPTED: Final[dict[str, Any]] = {
    "description": "The action was taken, and has not ended yet.",
    "headers": {
        "Location": {"schema": {"type": "string"}, "description": "Where the execution can be followed."},
        "Retry-After": {"schema": {"type": "integer"}},
        "Preference-Applied": {"schema": {"type": "string"}},
        "X-Request-ID": REQUEST_ID,
        **LIMIT_HEADERS,
    },
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Execution"}}},
}
