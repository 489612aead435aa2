"""What callers hand to a redis manager, checked the same way by every provider."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from base04_hookspecs.errors import InvalidInput

_MAX_TTL_S: Final = 10**10


def milliseconds(ttl: float) -> int:
    """Return a life in milliseconds, at least one.

    Raises:
        InvalidInput: it is no number of seconds above 0, or beyond three hundred years.
    """
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not 0 < ttl <= _MAX_TTL_S:
        raise InvalidInput(f"The life {ttl!r} is not usable: give a number of seconds above 0, or None for no end.")
    return max(1, round(ttl * 1000))


def name_bytes(name: str, what: str = "key") -> bytes:
    """Return a key or a channel as a server gets it.

    Raises:
        InvalidInput: it is no string, or holds half of a surrogate pair.
    """
    try:
        return name.encode()
    except (AttributeError, UnicodeEncodeError) as error:
        raise InvalidInput(f"The {what} {name!r} is not usable: give a string of Unicode characters.") from error


def tag_names(tags: Iterable[str]) -> tuple[str, ...]:
    """Return tags in their order, each once."""
    if isinstance(tags, str):
        raise InvalidInput(f"The tags {tags!r} are one string: give a list of strings.")
    return tuple(dict.fromkeys(tags))


def script_argument(arg: object) -> str:
    """Return a script's argument as a client sends it to a server."""
    if isinstance(arg, bool) or not isinstance(arg, (str, int, float)):
        raise InvalidInput(f"The script argument {arg!r} is not usable: give strings, integers or floats.")
    return str(arg)


def amount_to_add(amount: int) -> int:
    """Return what ``incr`` is to add."""
    if type(amount) is not int:
        raise InvalidInput(f"The amount {amount!r} is not usable: give an integer.")
    return amount
