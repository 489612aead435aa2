"""The answers that an action may have beside its result, as components of an OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

from base04.http.problems import problem_kinds

_MORE: Final[dict[int, dict[str, Any]]] = {
    403: {
        "missing": {"type": "array", "items": {"type": "string"}, "description": "The permissions that are missing."}
    },
    404: {"matches": {"type": "array", "items": {"type": "string"}, "description": "Names that come close."}},
    422: {"errors": {"type": "array", "items": {"$ref": "#/components/schemas/Fault"}}},
    429: {
        "violated-policies": {"type": "array", "items": {"type": "string"}},
        "exceeded": {"type": "array", "items": {"type": "string"}},
        "retry_after": {"type": "number", "description": "Seconds."},
    },
}
_RETRY_AFTER: Final = {"schema": {"type": "integer"}, "description": "Seconds after which another try makes sense."}
_HEADERS: Final[dict[int, dict[str, Any]]] = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    403: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    405: {"Allow": {"schema": {"type": "string"}}},
    429: {"Retry-After": _RETRY_AFTER},
    503: {"Retry-After": _RETRY_AFTER},
}

REQUEST_ID: Final = {
    "schema": {"type": "string"},
    "description": "The id of the request: the caller's own 'X-Request-ID', or a new one. The log has it too.",
}
LIMIT_HEADERS: Final = {
    name: {"schema": {"type": "string"}, "description": "draft-ietf-httpapi-ratelimit-headers-11."}
    for name in ("RateLimit", "RateLimit-Policy")
}


def problem_schemas() -> dict[str, Any]:
    """Return the schemas of problems (RFC 9457)."""
    return {
        "Problem": {
            "type": "object",
            "description": "A problem, as RFC 9457 has it.",
            "properties": {
                "type": {"type": "string", "format": "uri"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
                "request_id": {"type": "string"},
            },
            "required": ["type", "title", "status", "detail", "request_id"],
        },
        "Fault": {
            "type": "object",
            "properties": {
                "pointer": {"type": "string", "description": "A JSON pointer (RFC 6901) to what is wrong."},
                "detail": {"type": "string"},
            },
            "required": ["pointer", "detail"],
        },
    }


def problem_answers() -> dict[str, dict[str, Any]]:
    """Return the answers that are problems, by status."""
    kinds: dict[int, list[tuple[str, str]]] = {}
    for status, kind, title in problem_kinds():
        kinds.setdefault(status, []).append((kind, title))
    return {str(status): _answer(status, found) for status, found in sorted(kinds.items())}


def _answer(status: int, kinds: list[tuple[str, str]]) -> dict[str, Any]:
    own: dict[str, Any] = {"type": {"enum": [kind for kind, _ in kinds]}, "status": {"const": status}}
    schema = {
        "allOf": [{"$ref": "#/components/schemas/Problem"}],
        "properties": {**own, **_MORE.get(status, {})},
    }
    return {
        "description": "; or ".join(title for _, title in kinds),
        "headers": {"X-Request-ID": REQUEST_ID, **_HEADERS.get(status, {})},
        "content": {"application/problem+json": {"schema": schema}},
    }
