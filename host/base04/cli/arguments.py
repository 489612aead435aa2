"""Reading the arguments of an action from the words of a command line."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
import typer

_TRUE: Final = ("true", "yes", "on", "1")
_FALSE: Final = ("false", "no", "off", "0")

Words = list[tuple[str, str]]
"""Names and values as they were written."""


def read_words(words: Sequence[str]) -> dict[str, Any] | Words:
    """Read one JSON object, ``-`` for one on standard input, or ``name=value`` words, which are yet to be coerced."""
    if len(words) == 1 and (words[0] == "-" or words[0].lstrip().startswith("{")):
        text = sys.stdin.read() if words[0] == "-" else words[0]
        try:
            found = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise typer.BadParameter(f"This is not JSON: {error}.") from error
        if not isinstance(found, dict):
            raise typer.BadParameter("The arguments must be a JSON object.")
        return found
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"{word!r} is not written as name=value.")
        pairs.append((name, value))
    return pairs


def coerced(words: Words, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments, each of the type that the action's schema has for it.

    ``tag=a tag=b`` is a list where a list is expected, ``options.mark=!`` a member of an object. What cannot be read as
    its type stays a text, of which the host says what is wrong.
    """
    arguments: dict[str, Any] = {}
    for name, text in words:
        path, part = _place(name, schema)
        holder = arguments
        for step in path[:-1]:
            inner = holder.setdefault(step, {})
            if not isinstance(inner, dict):
                raise typer.BadParameter(f"{step!r} is given as a whole, and in parts by {name!r}.")
            holder = inner
        last = path[-1]
        if "array" in _types(part) and not text.lstrip().startswith("["):
            items = holder.setdefault(last, [])
            if not isinstance(items, list):
                raise typer.BadParameter(f"{name!r} is given twice.")
            items.append(_value(text, _resolved(part.get("items"), schema)))
        elif last in holder:
            raise typer.BadParameter(f"{name!r} is given twice.")
        else:
            holder[last] = _value(text, part)
    return arguments


def _place(name: str, root: Mapping[str, Any]) -> tuple[list[str], Mapping[str, Any]]:
    """Return the path that a name means, and the schema there; a declared name with dots means itself."""
    path: list[str] = []
    schema, rest = root, name
    while True:
        properties = schema.get("properties", {})
        step, dot, deeper = rest.partition(".")
        inner = _resolved(properties.get(step), root)
        if rest in properties or not dot or not deeper or "object" not in _types(inner):
            return [*path, rest], _resolved(properties.get(rest, schema.get("additionalProperties")), root)
        path.append(step)
        schema, rest = inner, deeper


def _resolved(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a schema, or the definition that it refers to; an empty one where there is none."""
    definitions = root.get("$defs", {})
    for _ in range(len(definitions) + 1):
        if not isinstance(schema, Mapping):
            return {}
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/$defs/"):
            return schema
        schema = definitions.get(reference.removeprefix("#/$defs/"))
    return {}


def _types(schema: Mapping[str, Any]) -> list[str]:
    types = schema.get("type", [])
    return [types] if isinstance(types, str) else list(types)


def _value(text: str, schema: Mapping[str, Any]) -> Any:
    types = _types(schema)
    if "null" in types and text == "null":
        return None
    if text in schema.get("enum", ()) or types in (["string"], ["string", "null"], ["null", "string"]):
        return text
    if "boolean" in types and text.lower() in (*_TRUE, *_FALSE):
        return text.lower() in _TRUE
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return text if "string" in types and not _is_of(found, types) else found


def _is_of(value: Any, types: Sequence[str]) -> bool:
    """Tell whether a value that was read as JSON has one of the types other than a text."""
    if isinstance(value, bool):
        return "boolean" in types
    if isinstance(value, int | float):
        return "number" in types or ("integer" in types and float(value).is_integer())
    if isinstance(value, list):
        return "array" in types
    return isinstance(value, dict) and "object" in types
