"""Checking the schemas of an action file, and compiling them once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from jsonschema_rs import Draft202012Validator, ValidationError, Validator, ValidatorMap, validator_map_for

from base04_builtin.action_discovery.defaults import ABSENT, DefaultEntry, EndlessReference, Fill, FillPlan
from base04_builtin.action_discovery.faults import nearest
from base04_builtin.action_discovery.schema_keywords import (
    FORMATS,
    KEYWORDS,
    TYPES,
    SchemaPath,
    Subschema,
    pointer,
    resolve,
    subschemas,
)
from base04_builtin.action_discovery.secrets import Conceal, concealer

Report = Callable[..., None]
"""Called as ``report(path, message)`` or ``report(path, message, key=True)``: the fault stands at the value that a
path within the schema leads to, or at its key."""

_METASCHEMA: Final = "https://json-schema.org/draft/2020-12/schema"
_MASK: Final = "the value"


@dataclass(frozen=True, slots=True)
class CompiledSchema:
    """A schema that can be used. ``fill`` and ``conceal`` are None where there is nothing to fill in or to conceal."""

    validator: Draft202012Validator
    fill: Fill | None
    conceal: Conceal | None


def compile_schema(schema: dict[str, Any], report: Report, *, fill: bool = True) -> CompiledSchema | None:
    """Check a schema and compile it; None where something is wrong with it, all of which is reported.

    Without ``fill`` defaults are checked, but not filled in, and may stand anywhere.
    """
    found = _Reports(report)
    _check_shape(schema, found)
    parts = list(subschemas(schema))
    for part in parts:
        _check_words(part, schema, found)
        if fill and "default" in part.schema and not part.default_used:
            found((*part.path, "default"), "This default is never filled in: only those of properties are.", key=True)
    if found.any:
        _check_defaults_alone(schema, parts, found)
        return None
    try:
        validator = Draft202012Validator(schema, validate_formats=True, mask=_MASK, offline=True)
    except (ValidationError, ValueError) as error:
        found(tuple(getattr(error, "instance_path", ())), f"This schema cannot be used: {_first_line(error)}.")
        return None
    words = {keyword for part in parts for keyword in part.schema}
    conceal = concealer(schema) if "secret" in words else None
    if not fill and words.isdisjoint(("default", "$ref")):
        return CompiledSchema(validator, None, conceal)
    plan = _plan(schema, parts, found, fill=fill, alone="$ref" not in words)
    return None if found.any else CompiledSchema(validator, plan, conceal)


class _Reports:
    """Passes faults on, and knows whether there were any."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.any = False

    def __call__(self, path: SchemaPath, message: str, *, key: bool = False) -> None:
        self.any = True
        self._report(path, message, key=key)


@functools.cache
def _metaschema() -> Draft202012Validator:
    return Draft202012Validator({"$ref": _METASCHEMA}, validate_formats=True, offline=True)


def _check_shape(schema: dict[str, Any], report: _Reports) -> None:
    for error in _metaschema().iter_errors(schema):
        path = tuple(error.instance_path)
        value = error.instance
        if path and path[-1] == "type" and isinstance(value, str):
            report(path, f"{value!r} is not a type of JSON Schema{_or_all(value, TYPES)}")
        else:
            report(path, f"This is not JSON Schema: {error.message}.")


def _check_words(part: Subschema, root: dict[str, Any], report: _Reports) -> None:
    for keyword, value in part.schema.items():
        path = (*part.path, keyword)
        if keyword not in KEYWORDS and not keyword.startswith("x-"):
            report(path, f"{keyword!r} is not a keyword of JSON Schema{_or_own(keyword)}", key=True)
        elif keyword == "format" and isinstance(value, str) and value not in FORMATS:
            report(path, f"The format {value!r} is not known{_or_all(value, sorted(FORMATS))}")
        elif keyword == "$ref" and isinstance(value, str) and resolve(root, value) is None:
            report(path, f"There is no {value!r} here: a reference leads to '#/$defs/...' of the same action or pack.")
        elif keyword in ("$id", "$anchor", "$dynamicAnchor", "$dynamicRef", "$vocabulary"):
            report(path, f"{keyword!r} is not used in action files: refer to '#/$defs/...' by '$ref'.", key=True)
        elif keyword == "secret" and not isinstance(value, bool):
            report(path, "'secret' must be true or false.")
        elif keyword == "default" and part.schema.get("secret") is True:
            report(path, "A secret has no default: it would stand here for all to read.", key=True)
        elif keyword == "$schema" and value != _METASCHEMA:
            report(path, f"Action files use JSON Schema 2020-12: leave '$schema' out, or write {_METASCHEMA!r}.")


def _or_own(keyword: str) -> str:
    hint = nearest(keyword, KEYWORDS)
    return hint if hint != "." else "; keywords of your own begin with 'x-'."


def _or_all(word: str, known: tuple[str, ...] | list[str]) -> str:
    hint = nearest(word, known)
    return hint if hint != "." else f": there are {', '.join(known)}."


def _plan(schema: dict[str, Any], parts: list[Subschema], report: _Reports, *, fill: bool, alone: bool) -> Fill | None:
    validators = _Validators(schema, alone=alone)
    try:
        plan = FillPlan(schema, validators.get)
    except EndlessReference as error:
        report(error.path, "This schema refers to itself without an end.")
        return None
    settled: dict[SchemaPath, Any] = {}
    if fill:
        for entry in plan.entries:
            _settle(entry, settled, report)
        if report.any:
            return None
        plan.settle()
    for part in parts:
        if "default" in part.schema:
            value = settled.get(part.path, part.schema["default"])
            _check_default(part, value, validators, report)
    return plan.fill if fill else None


def _settle(entry: DefaultEntry, settled: dict[SchemaPath, Any], report: _Reports) -> None:
    """Note the default of a property with its own properties' defaults filled in."""
    if entry.default is ABSENT:
        return
    try:
        settled[entry.path] = entry.value()
    except RecursionError:
        report((*entry.path, "default"), "This default has itself within it, without an end.")


def _check_default(part: Subschema, value: Any, validators: _Validators, report: _Reports) -> None:
    _report_errors(validators.get(pointer(part.path)), part, value, report)


def _report_errors(validator: Validator, part: Subschema, value: Any, report: _Reports) -> None:
    for error in validator.iter_errors(value):
        place = pointer(tuple(error.instance_path))
        where = f" at {place!r}" if place else ""
        report((*part.path, "default"), f"The default is refused by its own schema{where}: {error.message}.")


def _check_defaults_alone(schema: dict[str, Any], parts: list[Subschema], report: _Reports) -> None:
    """Check what defaults can be checked though other parts of the schema cannot be used."""
    definitions = {"$defs": schema["$defs"]} if "$defs" in schema else {}
    for part in parts:
        if "default" not in part.schema:
            continue
        try:
            validator = Draft202012Validator({**part.schema, **definitions}, validate_formats=True, offline=True)
        except (ValidationError, ValueError):
            continue  # it is among what has been reported
        _report_errors(validator, part, part.schema["default"], report)


class _Validators:
    """The compiled subschemas. Where nothing refers to anything, each is compiled ``alone``, when it is asked for."""

    def __init__(self, schema: dict[str, Any], *, alone: bool) -> None:
        self._schema, self._alone = schema, alone

    def get(self, place: str) -> Validator:
        if self._alone and (found := resolve(self._schema, "#" + place)) is not None:
            return Draft202012Validator(found[1], validate_formats=True, offline=True)
        return self._map["#" + place]

    @functools.cached_property
    def _map(self) -> ValidatorMap:
        return validator_map_for(self._schema, validate_formats=True, offline=True)


def _first_line(error: Exception) -> str:
    return str(getattr(error, "message", error)).partition("\n")[0].rstrip(".")
