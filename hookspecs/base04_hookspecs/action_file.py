"""The JSON Schema of action files, for editors and for other tools."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any


def action_file_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of action files.

    What it refuses is refused by discovery too. Discovery also looks at what no schema can tell: whether handlers and
    what ``$ref`` names exist, and whether defaults and examples are accepted by their own schemas.
    """
    text = resources.files("base04_hookspecs").joinpath("action_file.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
