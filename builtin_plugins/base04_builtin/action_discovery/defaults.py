"""Filling in the defaults of a schema, at any depth.

A schema is turned once into a plain function, or into None where it has nothing to fill. The function returns the
very value that it was given where nothing changes, and copies only what does. It also turns ``3.0`` into ``3`` where
the schema asks for an integer: to JSON Schema they are the same, to a handler they are not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from base04_builtin.action_discovery.schema_keywords import SchemaPath, pointer, resolve

Fill = Callable[[Any], Any]

_WITHIN: Final = frozenset(
    ("$ref", "additionalProperties", "allOf", "anyOf", "items", "oneOf", "prefixItems", "properties")
)
"""The keywords that lead to more to fill."""

ABSENT: Final = object()

_BEYOND_64_BITS: Final = 2.0**63


class EndlessReference(Exception):
    """A schema refers to itself without an end; ``path`` leads to it."""

    def __init__(self, path: SchemaPath) -> None:
        super().__init__(pointer(path))
        self.path = path


class Accepts(Protocol):
    """A compiled schema."""

    def is_valid(self, instance: Any) -> bool: ...


@dataclass(slots=True)
class DefaultEntry:
    """One property with something to fill. ``path`` leads to the schema that has the default."""

    name: str
    path: SchemaPath
    default: Any
    fill: Fill | None
    settled: bool = False

    def value(self) -> Any:
        """Return a default of its own for each caller, filled in turn."""
        value = _copied(self.default)
        return value if self.settled or self.fill is None else self.fill(value)


@dataclass(frozen=True, slots=True)
class FlatFill:
    """All that there is to fill where values lie flat: ``defaults`` that are no containers, and ``integers``."""

    defaults: dict[str, Any]
    integers: tuple[str, ...]


def flat_fill(root: dict[str, Any], fill: Fill | None) -> FlatFill | None:
    """Return what a schema of arguments fills in; None where that is more than plain values of properties.

    Filling such values changes nothing about whether the whole is valid, so that it may come after the check: the
    defaults are checked, and nothing but ``properties``, ``required`` and ``additionalProperties`` tells of the whole.
    """
    if root.keys() - {"type", "properties", "required", "additionalProperties", "$defs"}:
        return None
    if fill is None:
        return FlatFill({}, ())
    if isinstance(root["additionalProperties"], dict):
        return None
    defaults, integers = {}, []
    for name, part in root["properties"].items():
        if not isinstance(part, dict):
            continue
        if not _WITHIN.isdisjoint(part) or isinstance(part.get("default"), dict | list):
            return None
        if "default" in part:
            defaults[name] = part["default"]
        if _is_integer(part):
            integers.append(name)
    return FlatFill(defaults, tuple(integers))


class FillPlan:
    """Builds the function that fills values of a schema.

    ``validators`` returns the compiled subschema of a pointer; it is asked only for the branches of ``anyOf`` and
    ``oneOf``, of which the first that accepts the filled value counts.
    """

    def __init__(self, root: dict[str, Any], validators: Callable[[str], Accepts]) -> None:
        self._root = root
        self._validators = validators
        self._known: dict[SchemaPath, Fill | None] = {}
        self._begun: set[SchemaPath] = set()
        self.entries: list[DefaultEntry] = []
        self.fill = self._plan(root, (), frozenset())
        self._definitions()

    def settle(self) -> None:
        """Fill the defaults themselves, so that no call does it again. All of them must have an end."""
        for entry in self.entries:
            if entry.default is not ABSENT:
                entry.default = entry.value()
                entry.settled = True

    def _plan(self, schema: Any, path: SchemaPath, around: frozenset[SchemaPath]) -> Fill | None:
        """Plan one schema; ``around`` are those that describe the very same value."""
        if not isinstance(schema, dict):
            return None
        if path in around:
            raise EndlessReference(path)
        if path in self._known:
            return self._known[path]
        if path in self._begun:
            return self._later(path)
        if _WITHIN.isdisjoint(schema):
            return self._integer(schema)
        self._begun.add(path)
        around = around | {path}
        steps = [
            self._integer(schema),
            self._reference(schema, around),
            *(self._plan(part, (*path, "allOf", i), around) for i, part in enumerate(schema.get("allOf", ()))),
            self._object(schema, path),
            self._array(schema, path),
            self._choice("anyOf", schema, path, around),
            self._choice("oneOf", schema, path, around),
        ]
        fill = _in_turn([step for step in steps if step is not None])
        self._known[path] = fill
        return fill

    def _definitions(self) -> None:
        """Plan the definitions too, also those that nothing refers to: their defaults are checked as all others."""
        for name, part in self._root.get("$defs", {}).items():
            path = ("$defs", name)
            fill = self._plan(part, path, frozenset())
            if isinstance(part, dict) and "default" in part:
                self.entries.append(DefaultEntry(name, path, part["default"], fill))

    def _later(self, path: SchemaPath) -> Fill:
        known = self._known

        def fill(value: Any) -> Any:
            planned = known[path]
            return value if planned is None else planned(value)

        return fill

    def _integer(self, schema: dict[str, Any]) -> Fill | None:
        return as_integer if _is_integer(schema) else None

    def _reference(self, schema: dict[str, Any], around: frozenset[SchemaPath]) -> Fill | None:
        found = resolve(self._root, schema["$ref"]) if "$ref" in schema else None
        return None if found is None else self._plan(found[1], found[0], around)

    def _object(self, schema: dict[str, Any], path: SchemaPath) -> Fill | None:
        entries = []
        for name, part in schema.get("properties", {}).items():
            inner = (*path, "properties", name)
            fill = self._plan(part, inner, frozenset())
            default, where = self._default(part, inner)
            if fill is not None or default is not ABSENT:
                entries.append(DefaultEntry(name, where, default, fill))
        self.entries += entries
        others = None
        if "patternProperties" not in schema:  # whose patterns only the validator can tell
            others = self._plan(schema.get("additionalProperties"), (*path, "additionalProperties"), frozenset())
        if not entries and others is None:
            return None
        return _object_fill(entries, others, frozenset(schema.get("properties", ())))

    def _default(self, schema: Any, path: SchemaPath) -> tuple[Any, SchemaPath]:
        """Return the default of a property: its own, or that of what it refers to."""
        seen: set[SchemaPath] = set()
        while isinstance(schema, dict) and path not in seen:
            if "default" in schema:
                return schema["default"], path
            seen.add(path)
            found = resolve(self._root, schema["$ref"]) if "$ref" in schema else None
            if found is None:
                break
            path, schema = found
        return ABSENT, path

    def _array(self, schema: dict[str, Any], path: SchemaPath) -> Fill | None:
        first = [
            self._plan(part, (*path, "prefixItems", index), frozenset())
            for index, part in enumerate(schema.get("prefixItems", ()))
        ]
        rest = self._plan(schema.get("items"), (*path, "items"), frozenset())
        return _array_fill(first, rest) if rest is not None or any(first) else None

    def _choice(
        self, keyword: str, schema: dict[str, Any], path: SchemaPath, around: frozenset[SchemaPath]
    ) -> Fill | None:
        paths = [(*path, keyword, index) for index in range(len(schema.get(keyword, ())))]
        fills = [self._plan(part, inner, around) for part, inner in zip(schema.get(keyword, ()), paths, strict=True)]
        if not any(fills):
            return None
        return _choice_fill([(self._validators(pointer(inner)), f) for inner, f in zip(paths, fills, strict=True)])


def _in_turn(steps: list[Fill]) -> Fill | None:
    if len(steps) < 2:
        return steps[0] if steps else None

    def fill(value: Any) -> Any:
        for step in steps:
            value = step(value)
        return value

    return fill


def _is_integer(schema: dict[str, Any]) -> bool:
    types = schema.get("type")
    named = types if isinstance(types, list) else [types]
    return "integer" in named and "number" not in named


class IntegerTooLarge(ValueError):
    """A number is an integer that was not read exactly."""


def as_integer(value: Any) -> Any:
    """Return an integer for a number that is one.

    Raises:
        IntegerTooLarge: it needs more than 64 bits, so that its last digits were lost where the JSON was read.
    """
    if type(value) is not float or not value.is_integer():
        return value
    if abs(value) >= _BEYOND_64_BITS:
        raise IntegerTooLarge("an integer has more than the 64 bits that are read exactly")
    return int(value)


def _object_fill(entries: list[DefaultEntry], others: Fill | None, declared: frozenset[str]) -> Fill:
    def fill(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        changes: dict[str, Any] = {}
        for entry in entries:
            given = value.get(entry.name, ABSENT)
            if given is ABSENT:
                if entry.default is not ABSENT:
                    changes[entry.name] = entry.value()
            elif entry.fill is not None:
                filled = entry.fill(given)
                if filled is not given:
                    changes[entry.name] = filled
        if others is not None:
            changes.update(_other_changes(value, others, declared))
        return {**value, **changes} if changes else value

    return fill


def _other_changes(value: Mapping[str, Any], fill: Fill, declared: frozenset[str]) -> dict[str, Any]:
    filled = {name: (given, fill(given)) for name, given in value.items() if name not in declared}
    return {name: new for name, (given, new) in filled.items() if new is not given}


def _array_fill(first: list[Fill | None], rest: Fill | None) -> Fill:
    def fill(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        filled = [
            item if (step := first[index] if index < len(first) else rest) is None else step(item)
            for index, item in enumerate(value)
        ]
        return value if all(new is old for new, old in zip(filled, value, strict=True)) else filled

    return fill


def _choice_fill(branches: list[tuple[Accepts, Fill | None]]) -> Fill:
    def fill(value: Any) -> Any:
        for validator, step in branches:
            filled = value if step is None else step(value)
            if validator.is_valid(filled):
                return filled
        return value

    return fill


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value
