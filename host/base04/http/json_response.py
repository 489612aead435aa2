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
