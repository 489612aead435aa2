"""Conditions as data: ``Where`` taken apart and checked, before a database's own language is made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from base04_hookspecs.errors import InvalidInput

OPERATORS: Final = ("eq", "ne", "lt", "lte", "gt", "gte", "in", "prefix")
_LIMIT: Final = 1000


class Condition(NamedTuple):
    """One condition on one column; ``value`` is a list for ``in``.

    ``ne`` is true of a null where the value is not None, as it would be in Python.
    """

    column: str
    operator: str
    value: Any


def conditions(where: Any, check_column: Callable[[object], str]) -> Iterator[Condition]:
    """Take a ``Where`` apart.

    Raises:
        InvalidInput: it is not a mapping, an operator is unknown, or a value does not fit its operator.
    """
    if not isinstance(where, Mapping):
        raise InvalidInput(f"The conditions must be a mapping of columns to values, not {type(where).__name__}.")
    for name, value in where.items():
        column = check_column(name)
        if not isinstance(value, Mapping):
            yield _checked(column, "eq", value)
            continue
        if not value:
            raise InvalidInput(f"The condition on {column!r} is empty: give a value or an operator.")
        for operator, operand in value.items():
            yield _checked(column, operator, operand)


def _checked(column: str, operator: Any, value: Any) -> Condition:
    if operator not in OPERATORS:
        raise InvalidInput(
            f"The operator {operator!r:.100} on {column!r} is unknown: there are {', '.join(OPERATORS)}."
        )
    if operator == "in":
        if not isinstance(value, list | tuple | set | frozenset):
            raise InvalidInput(f"The operator 'in' on {column!r} takes a list.")
        if len(value) > _LIMIT:
            raise InvalidInput(
                f"The operator 'in' on {column!r} takes at most {_LIMIT} values, and {len(value)} came: split it."
            )
        return Condition(column, operator, list(value))
    if operator == "prefix" and not isinstance(value, str):
        raise InvalidInput(f"The operator 'prefix' on {column!r} takes a string.")
    if value is None and operator not in ("eq", "ne"):
        raise InvalidInput(f"The operator {operator!r} on {column!r} cannot compare with None.")
    if isinstance(value, list | tuple | set | dict):
        raise InvalidInput(f"The operator {operator!r} on {column!r} takes one value, not a {type(value).__name__}.")
    return Condition(column, operator, value)


def after_prefix(prefix: str) -> str | None:
    """Return the least string above all that begin with the prefix, in the order of code points; None for no bound."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if following == 0xD800 else following)
