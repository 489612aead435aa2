"""Statements that have been planned before, ready for other values.

Planning checks names, operators and keys with care, and takes longer than running the statement. What it finds depends
on the shape of a request alone, as long as its values are plain: then only the values are left to convert. A template
is an optimist: in any doubt it gives up, and the planner says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from operator import itemgetter
from typing import Any, Final, NamedTuple

from base04_builtin.database.requests import Step
from base04_builtin.database.values import Converter, Refused, Stored, converter
from base04_hookspecs.database import ColumnType

_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1
_PLAIN: Final = frozenset({str, int, float, bool, bytes})
_LISTS: Final = frozenset({list, tuple, type(None)})
_NONE: Final[dict[str, Any]] = {}
_BOUND_AS_THEY_ARE: Final[dict[ColumnType | None, type]] = {
    "string": str,
    "text": str,
    "float": float,
    "timestamp": float,
}


class Slot(NamedTuple):
    """One placeholder: which of the values it takes, and how that is converted."""

    place: int
    convert: Converter


class Plain:
    """Values that are bound as they are: texts and floats, of which all are looked at together.

    Args:
        order: which of the values each placeholder takes.
        types: the type of the column for each of the values.
        max_bytes: the most that one text may take.
    """

    __slots__ = ("_classes", "_max_bytes", "_numbers", "_ordered", "_texts")

    def __init__(self, order: Sequence[int], types: Sequence[ColumnType | None], max_bytes: int) -> None:
        self._classes = [_BOUND_AS_THEY_ARE[of] for of in types]
        texts = [place for place, of in enumerate(self._classes) if of is str]
        numbers = [place for place, of in enumerate(self._classes) if of is float]
        self._texts, self._numbers = _getter(texts), _getter(numbers)
        self._ordered = None if [*order] == [*range(len(types))] else _getter(order)
        self._max_bytes = max_bytes

    @staticmethod
    def of(order: Sequence[int], types: Sequence[ColumnType | None], max_bytes: int) -> Plain | None:
        """Return it for columns whose values can be bound as they are; None where that is not worth it."""
        worth = len(order) == len(types) > 2 and all(of in _BOUND_AS_THEY_ARE for of in types)
        return Plain(order, types, max_bytes) if worth else None

    def bind(self, values: Sequence[Any]) -> tuple[Stored, ...] | None:
        """Return what to bind, None in doubt."""
        if [value.__class__ for value in values] != self._classes:
            return None
        text = "".join(self._texts(values))
        if (
            not text.isascii()
            or "\0" in text
            or len(text) > self._max_bytes
            or not isfinite(sum(self._numbers(values)))
        ):
            return None
        return tuple(values) if self._ordered is None else self._ordered(values)


def _getter(places: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    if len(places) > 1:
        return itemgetter(*places)
    return lambda values: tuple([values[place] for place in places])


class Template(NamedTuple):
    """A statement for all requests of one shape; ``plain`` is for most of their values, ``slots`` for all others."""

    sql: str
    slots: tuple[Slot, ...]
    single: bool = False
    table: str = ""
    plain: Plain | None = None

    def bind(self, values: Sequence[Any]) -> tuple[Stored, ...] | None:
        """Return what to bind, None in doubt."""
        bound = self.plain.bind(values) if self.plain is not None else None
        if bound is not None:
            return bound
        try:
            return tuple([convert(values[place]) for place, convert in self.slots])
        except (Refused, UnicodeEncodeError):
            return None

    def step(self, operation: Mapping[str, Any], place: str) -> Step | None:
        """Return the step for an operation of this shape, None in doubt."""
        bound = self.bind([*operation.get("data", _NONE).values(), *operation.get("where", _NONE).values()])
        if bound is None:
            return None
        return Step(self.sql, bound, place, operation.get("expect"), None, self.single, self.table)


def slot(place: int, type: ColumnType | None, max_bytes: int, *, required: bool) -> Slot:
    """Return the slot for a value of a column of a type; ``required`` says that it must not be None."""
    convert = converter(type)

    def with_care(value: Any) -> Stored:
        if value is None and not required:
            return None
        stored = convert(value)
        if isinstance(stored, str | bytes) and not _fits(stored, max_bytes):
            raise Refused("is too long")
        return stored

    def text(value: Any) -> Stored:
        if value.__class__ is str and len(value) <= max_bytes and value.isascii() and "\0" not in value:
            return value
        return with_care(value)

    def integer(value: Any) -> Stored:
        if value.__class__ is int and _LEAST <= value <= _MOST:
            return value
        return with_care(value)

    if type in ("string", "text"):
        return Slot(place, text)
    return Slot(place, integer if type == "integer" else with_care)


def operation_shape(operation: Any) -> tuple[Any, ...] | None:
    """Return what the plan of an operation depends on, None where that is more than names."""
    if operation.__class__ is not dict:
        return None
    kind = operation.get("type")
    expect = operation.get("expect", 0)
    if kind == "upsert" or expect.__class__ is not int or expect < 0:
        return None
    data = operation.get("data", _NONE)
    where = operation.get("where", _NONE)
    if data.__class__ is not dict or not _is_plain(where):
        return None
    return (kind, tuple(operation), tuple(data), tuple(where))


def find_shape(where: Any, order_by: Any, columns: Any, limited: bool) -> tuple[Any, ...] | None:
    """Return what the plan of a ``find`` depends on, None where that is more than names."""
    if where is None:
        where = _NONE
    if not _is_plain(where) or order_by.__class__ not in _LISTS or columns.__class__ not in _LISTS:
        return None
    return (tuple(where), tuple(order_by), None if columns is None else tuple(columns), limited)


def are_natural(*numbers: Any) -> bool:
    """Tell whether these are plain numbers of at least 0."""
    return all(number.__class__ is int and 0 <= number <= _MOST for number in numbers)


def _is_plain(mapping: Any) -> bool:
    """Tell whether this is a dictionary of plain values: not of operators, and none is None."""
    if mapping.__class__ is not dict:
        return False
    for value in mapping.values():  # noqa: SIM110 - a generator would take twice as long
        if value.__class__ not in _PLAIN:
            return False
    return True


def _fits(value: str | bytes, max_bytes: int) -> bool:
    if len(value) > max_bytes:
        return False
    return isinstance(value, bytes) or value.isascii() or len(value.encode()) <= max_bytes
