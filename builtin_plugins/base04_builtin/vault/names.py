"""Which paths, keys and values of secrets are accepted, whatever keeps them."""

from __future__ import annotations

import re
from typing import Final

from base04_hookspecs.errors import InvalidInput

_NAME: Final = r"[^\s#{}/\x00-\x1f\x7f]+"
_PATH: Final = re.compile(rf"{_NAME}(?:/{_NAME})*\Z")
_KEY: Final = re.compile(rf"{_NAME}\Z")
_MAX_NAME: Final = 512


def check_path(path: object) -> str:
    """Return a path that can be used.

    Raises:
        InvalidInput: it is no word or words separated by ``/``, or too long.
    """
    return _checked(path, _PATH, "path")


def check_key(key: object) -> str:
    """Return a key that can be used.

    Raises:
        InvalidInput: it is no single word, or too long.
    """
    return _checked(key, _KEY, "key")


def check_value(path: str, key: str, value: object) -> str:
    """Return a secret that can be stored; the error does not show it.

    Raises:
        InvalidInput: it is not a string.
    """
    if not isinstance(value, str):
        raise InvalidInput(f"The secret {key!r} at {path!r} must be a string, not {type(value).__name__}.")
    return value


def _checked(name: object, pattern: re.Pattern[str], what: str) -> str:
    if not isinstance(name, str) or len(name) > _MAX_NAME or not pattern.match(name):
        raise InvalidInput(
            f"The {what} {name!r} of a secret cannot be used: write words without white space, '#' and braces, "
            f"at most {_MAX_NAME} characters" + (", separated by '/'." if what == "path" else ".")
        )
    return name
