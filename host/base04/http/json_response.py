"""JSON answers made by orjson."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import JSONResponse


class JSONAnswer(JSONResponse):
    """A JSON response that orjson writes."""

    def render(self, content: Any) -> bytes:
        """Write the content as JSON."""
        return orjson.dumps(content)


class SecretAnswer(JSONAnswer):
    """A JSON response that nobody may keep (RFC 6749, section 5.1)."""

    def init_headers(self, headers: Any = None) -> None:
        """Forbid caches."""
        super().init_headers({**(headers or {}), "cache-control": "no-store"})
