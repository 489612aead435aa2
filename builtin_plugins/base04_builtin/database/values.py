"""Values on their way into a table and back: what each type of column takes, and what it is stored as."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import orjson

from base04_hookspecs.database import ColumnType
from base04_hookspecs.errors import InvalidInput, ManagerError

Stored = str | int | float | bytes | None
"""What the driver binds and returns."""

Converter = Callable[[Any], Stored]

_INT64: Final = range(-(2**63), 2**63)
_DEPTH: Final = 100


class Refused(ValueError):
    """A value that cannot be stored; the message completes "The value of X ..."."""


def to_stored(value: Any, type: ColumnType | None, place: str, max_bytes: int) -> Stored:
    """Return what to bind for a value.

    Args:
        value: what the caller gave.
        type: the type of the column, None where it is not known.
        place: what the value is for, for messages: ``the column 'age'``.
        max_bytes: the most that a string, bytes or JSON may take.

    Raises:
        InvalidInput: the value does not fit.
    """
    try:
        stored = None if value is None else _CONVERTERS[type](value)
        size = len(stored) if isinstance(stored, str | bytes) else 0
        if isinstance(stored, str) and not stored.isascii():
            size = len(stored.encode())
        if size > max_bytes:
            raise Refused(f"is {size} bytes long, and at most {max_bytes} are accepted")
    except Refused as error:
        raise InvalidInput(f"The value for {place} {error}.") from None
    except UnicodeEncodeError as error:
        raise InvalidInput(f"The value for {place} holds lone surrogates, which are not text.") from error
    return stored


def converter(type: ColumnType | None) -> Converter:
    """Return what makes of a value what to bind, without a look at its size.

    It raises ``Refused`` or ``UnicodeEncodeError`` for a value that does not fit; ``to_stored`` then says why.
    """
    return _CONVERTERS[type]


def from_stored(value: Stored, type: ColumnType | None, place: str) -> Any:
    """Return what a stored value stands for in a column of a type.

    Raises:
        ManagerError: something else was written there, past the manager.
    """
    if value is None or type is None:
        return value
    if type == "boolean":
        return bool(value)
    if type in ("float", "timestamp") and isinstance(value, int):
        return float(value)
    if type == "json":
        try:
            return orjson.loads(value)  # type: ignore[arg-type]  # anything else than text raises
        except orjson.JSONDecodeError as error:
            raise ManagerError(f"What is stored in {place} is not JSON: it was not written by this manager.") from error
    return value


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise Refused(f"must be a string, and it is {_type(value)}")
    if "\0" in value:
        raise Refused("holds a NUL character, which databases do not take")
    return str.__str__(value)


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refused(f"must be an integer, and it is {_type(value)}")
    if value not in _INT64:
        raise Refused("does not fit in 64 bits")
    return int(value)


def _float(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise Refused(f"must be a number, and it is {_type(value)}")
    try:
        number = float(value)
    except OverflowError:
        raise Refused("is too large for a float") from None
    if not math.isfinite(number):
        raise Refused(f"must be finite, and it is {number}")
    return number


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Refused(f"must be true or false, and it is {_type(value)}")
    return value


def _timestamp(value: Any) -> float:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise Refused("is a datetime without a time zone; give it one, such as datetime.UTC")
        return value.timestamp()
    return _float(value)


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise Refused(f"must be bytes, and it is {_type(value)}")
    return bytes(value)


def _json(value: Any) -> str:
    text = _quickly(value)
    if text is None:
        _check_json(value, 0)
        text = orjson.dumps(value)
    return text.decode()


def _quickly(value: Any) -> bytes | None:
    """Return JSON that reads back as the very value and holds nothing that has to be looked for, None in doubt."""
    try:
        text = orjson.dumps(value)
    except TypeError:
        return None
    nested = text.count(b"{") + text.count(b"[") > _DEPTH
    return None if nested or b"\\u0000" in text or orjson.loads(text) != value else text


def _check_json(value: Any, depth: int) -> None:
    if depth > _DEPTH:
        raise Refused(f"is nested more than {_DEPTH} deep, or holds itself")
    if isinstance(value, dict):
        for key, item in value.items():
            _string_in_json(key)
            _check_json(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_json(item, depth + 1)
    elif isinstance(value, str):
        _string_in_json(value)
    elif isinstance(value, float):
        _float(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        _integer(value)
    elif value is not None and not isinstance(value, bool):
        raise Refused(f"holds {_type(value)}, which is not JSON")


def _string_in_json(value: Any) -> None:
    _string(value)
    if not value.isascii():
        value.encode()


def _any(value: Any) -> Stored:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float | datetime):
        return _timestamp(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise Refused(f"is {_type(value)}, which cannot be bound; JSON goes into a column of type json")


def _type(value: Any) -> str:
    return f"of type {type(value).__name__}"


_CONVERTERS: Final[dict[ColumnType | None, Converter]] = {
    "string": _string,
    "text": _string,
    "integer": _integer,
    "float": _float,
    "boolean": _boolean,
    "json": _json,
    "timestamp": _timestamp,
    "bytes": _bytes,
    None: _any,
}
