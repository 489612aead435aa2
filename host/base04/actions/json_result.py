"""Making sure that the result of a handler is JSON."""

from __future__ import annotations

from typing import Any, Final

import orjson

_PLAIN: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS


def json_result(value: Any) -> tuple[Any, bytes]:
    """Return a value that is JSON, and its text: the very same, or what dataclasses, dates and the like become in JSON.

    Raises:
        TypeError: it cannot become JSON.
        ValueError: it holds a number that is not finite, which JSON does not have.
    """
    try:
        written = orjson.dumps(value, option=_PLAIN)
    except TypeError:
        written = orjson.dumps(value)
        if b"null" in written:
            _refuse_not_finite(value)
        return orjson.loads(written), written
    if b"null" in written:
        _refuse_not_finite(value)
    return value, written


def _refuse_not_finite(value: Any) -> None:
    """orjson writes NaN and infinities as null; only where there is a null need they be looked for."""
    if _holds_not_finite(value):
        raise ValueError("It holds a number that is not finite (NaN or an infinity), which JSON does not have.")


def _holds_not_finite(value: Any) -> bool:
    if isinstance(value, float):
        return value != value or value in (float("inf"), float("-inf"))
    if isinstance(value, dict):
        return any(map(_holds_not_finite, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_holds_not_finite, value))
    fields = getattr(value, "__dataclass_fields__", None)
    if fields is not None and not isinstance(value, type):
        return any(_holds_not_finite(getattr(value, name, None)) for name in fields)
    return False
