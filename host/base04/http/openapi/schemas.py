"""The schemas of actions as components of an OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

_SCHEMA: Final = frozenset(
    (
        *("additionalProperties", "contains", "contentSchema", "else", "if", "items", "not", "propertyNames", "then"),
        *("unevaluatedItems", "unevaluatedProperties"),
    )
)
_LIST: Final = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_MAP: Final = frozenset(("$defs", "dependentSchemas", "patternProperties", "properties"))


def component(name: str, schema: dict[str, Any], *, given: bool) -> dict[str, Any]:
    """Return a schema as the component of a name: its references lead to within that component.

    A secret that is ``given`` by the caller is one that is never returned; all are to be shown as passwords are.
    """
    found: dict[str, Any] = _moved(schema, f"#/components/schemas/{name}", given)
    return found


def _moved(schema: Any, root: str, given: bool) -> Any:
    if not isinstance(schema, dict):
        return schema
    moved: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword == "$ref" and isinstance(value, str) and value.startswith("#"):
            moved[keyword] = root + value[1:]
        elif keyword in _SCHEMA:
            moved[keyword] = _moved(value, root, given)
        elif keyword in _LIST:
            moved[keyword] = [_moved(part, root, given) for part in value]
        elif keyword in _MAP:
            moved[keyword] = {name: _moved(part, root, given) for name, part in value.items()}
        elif keyword == "secret":
            moved |= _password(schema, given) if value else {}
        else:
            moved[keyword] = value
    return moved


def _password(schema: dict[str, Any], given: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"writeOnly": True} if given else {}
    if schema.get("type") == "string" and "format" not in schema:
        shown["format"] = "password"
    return shown
