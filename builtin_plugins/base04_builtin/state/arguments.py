"""What callers hand in, checked and made their own: nothing of it can change under a state afterwards."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import orjson

from base04_hookspecs.errors import InvalidInput, VersionConflict
from base04_hookspecs.state import State

_LONGEST: Final = 100 * 366 * 86400.0
_MOST: Final = 2**63 - 1
_TYPE: Final = "type:"


def check_id(state_id: object) -> None:
    """Refuse what cannot be the id of a state.

    Raises:
        InvalidInput: it is not 1 to 255 printable characters, or it means many states.
    """
    if not isinstance(state_id, str) or not 0 < len(state_id) <= 255 or not state_id.isprintable():
        raise InvalidInput(f"The state id {state_id!r:.100} cannot be used: write 1 to 255 printable characters.")
    if "*" in state_id or state_id.startswith(_TYPE):
        raise InvalidInput(
            f"The state id {state_id!r:.100} cannot be used: '*' and 'type:' mean many states to register_callback."
        )


def check_pattern(pattern: object) -> str:
    """Return what callbacks can listen to: a state, a prefix or a type.

    Raises:
        InvalidInput: it is none of these.
    """
    usable = isinstance(pattern, str) and pattern not in ("", _TYPE) and "*" not in pattern[:-1]
    if not usable or (str(pattern).startswith(_TYPE) and "*" in str(pattern)):
        raise InvalidInput(
            f"Callbacks cannot listen to {pattern!r:.100}: give the id of a state, a prefix such as 'user_*', "
            "or a type such as 'type:session'."
        )
    return str(pattern)


def check_name(name: object) -> str:
    """Return the name of a durable callback.

    Raises:
        InvalidInput: it is not 1 to 100 printable characters.
    """
    if not isinstance(name, str) or not 0 < len(name) <= 100 or not name.isprintable():
        raise InvalidInput(f"The callback name {name!r:.100} cannot be used: write 1 to 100 printable characters.")
    return name


def matches(pattern: str, state_type: str, state_id: str) -> bool:
    """Tell whether who listens to a pattern hears of a state."""
    if pattern.startswith(_TYPE):
        return pattern[len(_TYPE) :] == state_type
    if pattern.endswith("*"):
        return state_id.startswith(pattern[:-1])
    return pattern == state_id


def check_version(state: State, expected: int | None) -> None:
    """Refuse a change of another version than the expected one.

    Raises:
        VersionConflict: the state has another.
    """
    if expected is not None and state["version"] != expected:
        raise VersionConflict(
            f"The state {state['state_id']!r} has version {state['version']} and not the expected {expected}: "
            "read it again and decide anew.",
            version=state["version"],
        )


def natural(value: object, what: str) -> int:
    """Return a version, or a number of things.

    Raises:
        InvalidInput: it is not a whole number of at least 0.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST:
        raise InvalidInput(f"The {what} must be a whole number of at least 0, not {value!r:.100}.")
    return value


def own_data(data: object) -> dict[str, Any]:
    """Return the data of a state as a copy of our own.

    Raises:
        InvalidInput: they are not a mapping that JSON can hold.
    """
    if not isinstance(data, Mapping):
        raise InvalidInput(f"The data of a state must be a mapping, not {type(data).__name__}.")
    try:
        copied: dict[str, Any] = orjson.loads(orjson.dumps(dict(data), None, _OPTIONS))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"The data of a state must be JSON: {error}.") from error
    if copied != data:  # tuples look different after the way through JSON, and so does what JSON does not have
        _check_json(data)
    return copied


_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS


def _check_json(value: Any) -> None:
    """Refuse what orjson writes as something else: NaN and infinities as null, identifiers as text."""
    if isinstance(value, Mapping):
        for item in value.values():
            _check_json(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_json(item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput("The data of a state hold NaN or an infinity, which JSON does not have: give None instead.")
    elif value is not None and not isinstance(value, str | int | float):
        raise InvalidInput(f"The data of a state hold a {type(value).__name__}, which is not JSON.")


def lifetime(ttl: object) -> float | None:
    """Return a time to live in seconds.

    Raises:
        InvalidInput: it is not a positive number.
    """
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not 0 < ttl <= _LONGEST:
        raise InvalidInput(f"The ttl must be a positive number of seconds, not {ttl!r:.100}.")
    return float(ttl)
