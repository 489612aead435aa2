"""Values between what the contract has (numbers, text, bytes) and what the driver has for the server's own types.

Tables that ``ensure_table`` made need none of this; it is for tables that were made with plain SQL.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import orjson

from base04_builtin.database.postgresql.driver import ServerType
from base04_hookspecs.errors import InvalidInput

Converter = Callable[[Any], Any]

_PLAIN: Final = frozenset(
    {"int2", "int4", "int8", "oid", "float4", "float8", "bool", "text", "varchar", "bpchar", "char", "name", "bytea"}
)


def encoder(type: ServerType) -> Converter | None:
    """Return what makes a bound value fit a parameter of a type; None where nothing is to do."""
    return _ENCODERS.get(type.name)


def decoder(type: ServerType) -> Converter | None:
    """Return what makes a value of a type fit for JSON (or bytes); None where it is already."""
    return None if type.name in _PLAIN else _DECODERS.get(type.name, plain)


def encode(values: Iterable[Any], encoders: tuple[tuple[int, Converter], ...]) -> list[Any]:
    """Return bound values with the encoders applied at their places.

    Raises:
        InvalidInput: a value does not fit.
    """
    encoded = list(values)
    for index, convert in encoders:
        try:
            encoded[index] = None if encoded[index] is None else convert(encoded[index])
        except (ValueError, TypeError, OverflowError, OSError, InvalidOperation):
            raise InvalidInput(f"The value ${index + 1} does not fit the type of its column.") from None
    return encoded


def plain(value: Any) -> Any:
    """Return a value of any of the server's types as numbers, text, bytes and lists."""
    if value is None or isinstance(value, str | int | float | bytes):
        return value
    if isinstance(value, datetime):
        return value.timestamp() if value.tzinfo is not None else value.isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if hasattr(value, "items"):  # a composite value
        return {name: plain(item) for name, item in value.items()}
    return str(value)


def _number(value: Decimal) -> int | float:
    """Return an exact integer, or else the nearest float."""
    return int(value) if value.is_finite() and value == value.to_integral_value() else float(value)


def _moment(value: Any) -> datetime:
    if isinstance(value, str):
        parsed = datetime.fromisoformat(value)
        if parsed.tzinfo is None:
            raise ValueError("no time zone")
        return parsed
    return datetime.fromtimestamp(value, UTC)


def _wall_clock(value: Any) -> datetime:
    if isinstance(value, str):
        parsed = datetime.fromisoformat(value)
        return parsed if parsed.tzinfo is None else parsed.astimezone(UTC).replace(tzinfo=None)
    return datetime.fromtimestamp(value, UTC).replace(tzinfo=None)


def _day(value: Any) -> date:
    return date.fromisoformat(value) if isinstance(value, str) else _moment(value).date()


def _interval(value: Any) -> timedelta:
    return timedelta(seconds=value)


def _decimal(value: Any) -> Decimal:
    return Decimal(str(value))  # exactly what a float shows; of a bool it is refused


def _json(value: str) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:  # a number that no float can hold
        return json.loads(value)


_ENCODERS: Final[dict[str, Converter]] = {
    "timestamptz": _moment,
    "timestamp": _wall_clock,
    "date": _day,
    "time": time.fromisoformat,
    "timetz": time.fromisoformat,
    "interval": _interval,
    "numeric": _decimal,
}
_DECODERS: Final[dict[str, Converter]] = {"json": _json, "jsonb": _json, "uuid": str}
