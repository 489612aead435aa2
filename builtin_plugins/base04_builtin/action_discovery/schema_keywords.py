"""The words of JSON Schema 2020-12 (https://json-schema.org/draft/2020-12), and a way through a schema by them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

_ONE: Final = frozenset(
    (
        "additionalProperties",
        "contains",
        "contentSchema",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    )
)
_LIST: Final = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_MAP: Final = frozenset(("$defs", "dependentSchemas", "patternProperties", "properties"))

KEYWORDS: Final = frozenset(
    (
        *_ONE,
        *_LIST,
        *_MAP,
        *("$anchor", "$comment", "$dynamicAnchor", "$dynamicRef", "$id", "$ref", "$schema", "$vocabulary"),
        *("const", "dependentRequired", "enum", "exclusiveMaximum", "exclusiveMinimum", "maxContains", "maxItems"),
        *("maxLength", "maxProperties", "maximum", "minContains", "minItems", "minLength", "minProperties", "minimum"),
        *("multipleOf", "pattern", "required", "type", "uniqueItems"),
        *("contentEncoding", "contentMediaType", "default", "deprecated", "description", "examples", "format"),
        *("readOnly", "title", "writeOnly"),
        "secret",
    )
)
"""All keywords, and ``secret`` of Base04; those that begin with ``x-`` are anybody's."""

TYPES: Final = ("array", "boolean", "integer", "null", "number", "object", "string")

FORMATS: Final = frozenset(
    (
        *("date", "date-time", "duration", "email", "hostname", "idn-email", "idn-hostname", "ipv4", "ipv6", "iri"),
        *("iri-reference", "json-pointer", "regex", "relative-json-pointer", "time", "uri", "uri-reference"),
        *("uri-template", "uuid"),
    )
)
"""The formats that are enforced."""

_FILLED: Final = frozenset(
    ("$defs", "additionalProperties", "allOf", "anyOf", "items", "oneOf", "prefixItems", "properties")
)

SchemaPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Subschema:
    """A schema within a schema. ``default_used`` tells whether a default here is ever filled in.

    Those of properties are, and of definitions, which may be properties; not where it depends on a condition.
    """

    path: SchemaPath
    schema: dict[str, Any]
    default_used: bool


def subschemas(schema: Any) -> Iterator[Subschema]:
    """Yield a schema and all within it. What has the wrong shape is passed over: the metaschema reports it."""
    yield from _subschemas(schema, (), filled=True, named=False)


def _subschemas(schema: Any, path: SchemaPath, *, filled: bool, named: bool) -> Iterator[Subschema]:
    if not isinstance(schema, dict):
        return
    yield Subschema(path, schema, filled and named)
    for keyword, value in schema.items():
        inside = filled and keyword in _FILLED
        if keyword == "additionalProperties" and "patternProperties" in schema:
            inside = False
        if keyword in _ONE:
            yield from _subschemas(value, (*path, keyword), filled=inside, named=False)
        elif keyword in _LIST and isinstance(value, list):
            for index, item in enumerate(value):
                yield from _subschemas(item, (*path, keyword, index), filled=inside, named=False)
        elif keyword in _MAP and isinstance(value, dict):
            for name, item in value.items():
                yield from _subschemas(item, (*path, keyword, name), filled=inside, named=True)


def pointer(path: SchemaPath) -> str:
    """Return a path as a JSON pointer (RFC 6901)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def resolve(root: dict[str, Any], reference: str) -> tuple[SchemaPath, Any] | None:
    """Find what a reference within the schema (``#/$defs/name``) means; None where there is nothing."""
    if reference == "#":
        return (), root
    if not reference.startswith("#/"):
        return None
    path: list[str | int] = []
    found: Any = root
    for part in reference[2:].split("/"):
        step = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and step in found:
            path.append(step)
            found = found[step]
        elif isinstance(found, list) and step.isdecimal() and int(step) < len(found):
            path.append(int(step))
            found = found[int(step)]
        else:
            return None
    return tuple(path), found
