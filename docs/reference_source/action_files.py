"""Action files: every key, from the JSON Schema that they are checked against."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from base04_hookspecs.action_file import action_file_schema
from reference_source.page import Page, table

HEADS: Final = ("key", "type", "needed", "default", "meaning")
_TYPES: Final = {"object": "mapping", "array": "list", "string": "text", "boolean": "true or false"}

Row = tuple[str, str, str, str, str]


def page() -> Page:
    """Return the page."""
    return Page.of("reference/action-files.md", "Action files", _lines(action_file_schema()))


def _lines(schema: dict[str, Any]) -> Iterator[str]:
    yield "Every key of an action file. [Write an action pack](../write-an-action-pack.md) says how to use them, and"
    yield from ("`base04 actions schema` prints the schema for an editor.", "")
    yield from ("## The file", "")
    yield from table(HEADS, _rows(schema, schema))
    yield from ("## An action", "", "Below `actions`, under the action's short name:", "")
    yield from table(HEADS, _rows(schema["$defs"]["action"], schema))
    yield from ("## A schema", "")
    yield "A parameter, `returns`, and what is in `$defs` are JSON Schemas (draft 2020-12), `true` or `false`. They may"
    yield from ("have these keys, and keys that begin with `x-`:", "")
    kept = schema["$defs"]["objectSchema"]
    yield from (", ".join(f"`{key}`" for key in kept["properties"]) + ".", "")
    yield from table(HEADS, [row for row in _rows(kept, schema) if row[4]])


def _rows(described: dict[str, Any], schema: dict[str, Any], prefix: str = "") -> Iterator[Row]:
    needed = described.get("required", ())
    for key, value in described.get("properties", {}).items():
        if value is True:
            value = {}
        default = f"`{json.dumps(value['default'])}`" if "default" in value else ""
        yield (
            f"`{prefix}{key}`",
            _type(value, schema),
            "yes" if key in needed else "",
            default,
            value.get("description", "") or _meant(value, schema),
        )
        for inner in (value, value.get("items", {}), *value.get("anyOf", ())):
            if isinstance(inner, dict) and inner.get("properties"):
                yield from _rows(inner, schema, f"{prefix}{key}.")


def _meant(value: dict[str, Any], schema: dict[str, Any]) -> str:
    return str(_referred(value, schema).get("description", "")) if "$ref" in value else ""


def _referred(value: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schema["$defs"][value["$ref"].rpartition("/")[2]]
    return found


def _type(value: dict[str, Any], schema: dict[str, Any]) -> str:
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return {"duration": "duration", "schema": "schema", "objectSchema": "schema", "action": "action"}[name]
    if "const" in value or "enum" in value:
        return ", ".join(f"`{item}`" for item in value.get("enum", [value.get("const")]))
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_type(item, schema) for item in value["anyOf"]))
    inner = value.get("items", value.get("additionalProperties"))
    kind = value.get("type", "any value")
    of = f" of {_plural(_type(inner, schema))}" if isinstance(inner, dict) and _type(inner, schema) else ""
    return f"{_TYPES.get(kind, kind)}{of}{_range(value)}"


def _plural(kind: str) -> str:
    return {"schema": "schemas", "action": "actions", "mapping": "mappings", "duration": "durations"}.get(kind, kind)


def _range(value: dict[str, Any]) -> str:
    if "minimum" not in value:
        return ""
    return f", {value['minimum']} to {value['maximum']}" if "maximum" in value else f", at least {value['minimum']}"
