"""Reading and checking JSON as strictly as signed text needs it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from base04_hookspecs.errors import Fault

_MAX_DEPTH = 32


def parse_object(text: bytes) -> dict[str, Any]:
    """Read one JSON object (RFC 8259) in UTF-8 whose member names are all different.

    Raises:
        ValueError: it is anything else.
    """
    try:
        value = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if isinstance(value, dict):
        return value
    raise ValueError("it is not an object")


def is_plain(value: Any, depth: int = 0) -> bool:
    """Tell quickly that a value is JSON of the plain types; one that is not may still have no faults."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return True
    if kind is float:
        return math.isfinite(value)
    if depth >= _MAX_DEPTH or (kind is not dict and kind is not list):
        return False
    if kind is dict:
        for name in value:
            if type(name) is not str:
                return False
        value = value.values()
    for member in value:  # noqa: SIM110  # a generator costs more than what it looks at
        if type(member) is not str and not is_plain(member, depth + 1):
            return False
    return True


def faults_of(value: object, pointer: str = "", depth: int = 0) -> Iterator[Fault]:
    """Yield what keeps a value from being JSON that comes back as it was given; tuples pass as arrays."""
    if depth > _MAX_DEPTH:
        yield Fault(pointer, f"is nested more than {_MAX_DEPTH} levels deep")
    elif isinstance(value, dict):
        for name, member in value.items():
            place = f"{pointer}/{_escaped(str(name))}"
            if not isinstance(name, str):
                yield Fault(place, "has a name that is not a string")
            yield from faults_of(member, place, depth + 1)
    elif isinstance(value, list | tuple):
        for index, member in enumerate(value):
            yield from faults_of(member, f"{pointer}/{index}", depth + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield Fault(pointer, "is not a finite number")
    elif value is not None and not isinstance(value, str | int):
        yield Fault(pointer, f"is {type(value).__name__}, which JSON does not have")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member name occurs twice")
    return members


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
