"""Concealing what a schema marks with ``secret: true``, wherever it sits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from base04_builtin.action_discovery.schema_keywords import resolve
from base04_hookspecs.action_discovery import CONCEALED

Conceal = Callable[[Any], Any]

_SAME_VALUE: Final = ("allOf", "anyOf", "oneOf")
_CONDITIONS: Final = ("if", "then", "else")
_ANY_MEMBER: Final = ("additionalProperties", "unevaluatedProperties")
_ANY_ITEM: Final = ("items", "contains", "unevaluatedItems")


def concealer(schema: dict[str, Any]) -> Conceal:
    """Return a function that copies a value without its secrets.

    Whatever any part of the schema that may concern a value marks is concealed, also where the value is not valid.
    """

    def conceal(value: Any) -> Any:
        return _concealed(value, [schema], schema)

    return conceal


def _concealed(value: Any, schemas: Iterable[Any], root: dict[str, Any]) -> Any:
    applied = list(_applied(schemas, root))
    if any(schema.get("secret") is True for schema in applied):
        return CONCEALED
    if isinstance(value, dict) and applied:
        return {name: _concealed(item, _of_member(str(name), applied), root) for name, item in value.items()}
    if isinstance(value, list | tuple) and applied:
        return [_concealed(item, _of_item(index, applied), root) for index, item in enumerate(value)]
    return value


def _applied(schemas: Iterable[Any], root: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield all schemas that may tell of one value: those given, what they refer to, and their alternatives."""
    pending, seen = list(schemas), set[int]()
    while pending:
        schema = pending.pop()
        if not isinstance(schema, dict) or id(schema) in seen:
            continue
        seen.add(id(schema))
        yield schema
        found = resolve(root, schema["$ref"]) if "$ref" in schema else None
        pending += [found[1]] if found is not None else []
        pending += [schema[keyword] for keyword in _CONDITIONS if keyword in schema]
        pending += [part for keyword in _SAME_VALUE for part in schema.get(keyword, ())]
        pending += schema.get("dependentSchemas", {}).values()


def _of_member(name: str, schemas: Iterable[dict[str, Any]]) -> Iterator[Any]:
    for schema in schemas:
        declared = schema.get("properties", {})
        if name in declared:
            yield declared[name]
        yield from (part for pattern, part in schema.get("patternProperties", {}).items() if _may_match(pattern, name))
        if name not in declared:
            yield from (schema[keyword] for keyword in _ANY_MEMBER if keyword in schema)


def _may_match(pattern: str, name: str) -> bool:
    """Tell whether a name matches; a pattern that Python reads otherwise than JSON Schema does might."""
    try:
        return re.search(pattern, name) is not None
    except re.error:
        return True


def _of_item(index: int, schemas: Iterable[dict[str, Any]]) -> Iterator[Any]:
    for schema in schemas:
        first = schema.get("prefixItems", [])
        if index < len(first):
            yield first[index]
        yield from (schema[keyword] for keyword in _ANY_ITEM if keyword in schema)
