"""What callers hand in, checked, and values as JSON text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson

from base04_hookspecs.errors import InvalidInput, ManagerError

_LONGEST_LIFE_S: Final = 10**10
_PLAIN_TYPES_ALONE: Final = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS


def to_utf8(text: str, what: str = "key") -> bytes:
    """Return a key, a tag or a channel in UTF-8.

    Raises:
        InvalidInput: it is no string, or holds half of a surrogate pair.
    """
    try:
        return text.encode()
    except (AttributeError, UnicodeEncodeError) as error:
        raise InvalidInput(f"The {what} {text!r} cannot be used: give a string of Unicode characters.") from error


def to_milliseconds(ttl: float | None) -> int | None:
    """Return a life in whole milliseconds, at least one; None for no end.

    Raises:
        InvalidInput: it is no number of seconds above 0, or beyond three hundred years.
    """
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not 0 < ttl <= _LONGEST_LIFE_S:
        raise InvalidInput(f"The life {ttl!r} cannot be used: give seconds above 0, or None for no end.")
    return max(1, round(ttl * 1000))


def to_amount(amount: int) -> int:
    """Return what ``incr`` is to add.

    Raises:
        InvalidInput: it is no integer.
    """
    if type(amount) is not int:
        raise InvalidInput(f"The amount {amount!r} cannot be added: give an integer.")
    return amount


def to_tags(tags: Iterable[str]) -> list[str]:
    """Return tags, each once.

    Raises:
        InvalidInput: it is one string, which would be taken for its letters.
    """
    if isinstance(tags, str):
        raise InvalidInput(f"The tags {tags!r} are one string: give a list of strings.")
    return list(dict.fromkeys(tags))


def to_script_arguments(args: Sequence[str | int | float]) -> list[str]:
    """Return a script's arguments as the strings that it gets.

    Raises:
        InvalidInput: one is neither a string nor a number.
    """
    for arg in args:
        if isinstance(arg, bool) or not isinstance(arg, str | int | float):
            raise InvalidInput(f"The script argument {arg!r} cannot be used: give strings, integers or floats.")
    return [str(arg) for arg in args]


def to_json(value: Any) -> bytes:
    """Return the JSON text of a value.

    Raises:
        InvalidInput: it is not JSON, NaN and the infinities included.
    """
    try:
        text = orjson.dumps(value, option=_PLAIN_TYPES_ALONE)
    except TypeError as error:
        raise InvalidInput(f"The value of type {type(value).__name__} is not JSON: {error}.") from error
    if b"null" in text and not _is_finite(value):  # orjson writes NaN and the infinities as null
        raise InvalidInput("The value holds NaN or an infinity, which JSON does not have: give None instead.")
    return text


def from_json(text: bytes, where: str) -> Any:
    """Return the value of a JSON text, a new object each time.

    Raises:
        ManagerError: a script has left text there that is not JSON.
    """
    try:
        return orjson.loads(text)
    except ValueError as error:
        raise ManagerError(f"What is stored at {where!r} is not JSON: a script must have written it.") from error


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, list | tuple) or all(map(_is_finite, value))
