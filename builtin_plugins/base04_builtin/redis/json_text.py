"""Values as JSON text and back, refusing what JSON does not have."""

from __future__ import annotations

import math
from typing import Any, Final

import orjson

from base04_hookspecs.errors import InvalidInput, ManagerError

_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS


def encode(value: Any) -> str:
    """Return the JSON text of a value; raises as ``encode_bytes`` does."""
    return encode_bytes(value).decode()


def encode_bytes(value: Any) -> bytes:
    """Return the JSON text of a value in UTF-8.

    Raises:
        InvalidInput: it is not JSON: another type, a key that is no string, NaN, an infinity, an integer of more
            than 64 bits, or more than 250 levels deep.
    """
    try:
        raw = orjson.dumps(value, None, _OPTIONS)
    except TypeError as error:
        raise InvalidInput(
            f"The value of type {type(value).__name__} cannot be stored as JSON ({error}): "
            "give dicts with string keys, lists, strings, 64-bit integers, finite floats, booleans and None."
        ) from error
    # orjson writes NaN and the infinities as null, so that only a text with a null can hide one.
    if value is not None and b"null" in raw and not _finite(value):
        raise InvalidInput("The value holds NaN or an infinity, which JSON does not have: give None instead.")
    return raw


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_finite, value))
    return True


def decode(raw: str | bytes, where: str) -> Any:
    """Return the value of a JSON text, a new object each time.

    Raises:
        ManagerError: a script or another program has left text there that is not JSON.
    """
    try:
        return orjson.loads(raw)
    except ValueError as error:
        raise ManagerError(
            f"What is stored at {where!r} is not JSON: a script or another program must have written it."
        ) from error
