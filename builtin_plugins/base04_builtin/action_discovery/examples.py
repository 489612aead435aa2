"""Reading the examples of an action: what to give it, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from base04_builtin.action_discovery.fields import Place, read_text
from base04_builtin.action_discovery.schema import CompiledSchema
from base04_hookspecs.action_discovery import ActionExample

_KEYS: Final = ("summary", "arguments", "result")


def read_examples(place: Place, arguments: CompiledSchema | None, result: CompiledSchema | None) -> list[ActionExample]:
    """Return the examples of an action, each of which its own schemas accept."""
    written = place.data.get("examples", [])
    if not isinstance(written, list):
        place.fault("examples", "'examples' must be a list of mappings with 'arguments'.")
        return []
    found: list[ActionExample] = []
    for index, item in enumerate(written):
        if not isinstance(item, dict):
            place.faults.add(
                place.document.value(place.at("examples", index)), "An example is a mapping with 'arguments'."
            )
            continue
        inner = Place(place.document, place.faults, place.at("examples", index), item)
        inner.refuse_unknown(_KEYS)
        inner.require("arguments")
        example: ActionExample = {"summary": read_text(inner, "summary"), "arguments": _arguments(inner, arguments)}
        if "result" in item:
            example["result"] = item["result"]
            _check(inner, "result", item["result"], result)
        found.append(example)
    return found


def _arguments(place: Place, compiled: CompiledSchema | None) -> dict[str, Any]:
    value = place.data.get("arguments", {})
    if not isinstance(value, Mapping):
        place.fault("arguments", "'arguments' must be a mapping from parameters to values.")
        return {}
    filled = value if compiled is None or compiled.fill is None else compiled.fill(value)
    _check(place, "arguments", filled, compiled)
    return dict(value)


def _check(place: Place, key: str, value: Any, compiled: CompiledSchema | None) -> None:
    if compiled is None or compiled.validator.is_valid(value):
        return
    for error in compiled.validator.iter_errors(value):
        where = place.at(key, *error.instance_path)
        place.faults.add(
            place.document.value(where), f"The example is refused by the action's own schema: {error.message}."
        )
