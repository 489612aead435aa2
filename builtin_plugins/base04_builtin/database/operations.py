"""Operations of a transaction as data: which keys each kind takes, checked before anything is planned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from base04_builtin.database.names import check_table
from base04_hookspecs.errors import InvalidInput

_KEYS: Final = {
    "insert": frozenset({"type", "table", "data", "expect"}),
    "update": frozenset({"type", "table", "data", "where", "expect"}),
    "delete": frozenset({"type", "table", "where", "expect"}),
    "upsert": frozenset({"type", "table", "data", "where", "expect"}),
}


def operation_table(operation: Any, place: str) -> str:
    """Return the table of an operation.

    Raises:
        InvalidInput: it is not an operation.
    """
    kind = operation.get("type") if isinstance(operation, Mapping) else None
    if not isinstance(kind, str) or kind not in _KEYS:
        raise InvalidInput(f"The operation {place} must be a mapping whose 'type' is one of {', '.join(_KEYS)}.")
    return check_table(operation.get("table"))


def check_keys(operation: Mapping[str, Any], place: str) -> None:
    """Check that an operation has the keys of its kind and no other.

    Raises:
        InvalidInput: it has not.
    """
    kind = operation["type"]
    unknown = [str(key) for key in operation if key not in _KEYS[kind]]
    required = _KEYS[kind] - {"expect"} - ({"where"} if kind == "update" else set())
    missing = sorted(required - operation.keys())
    if unknown or missing:
        raise InvalidInput(
            f"The operation {place} ({kind}) takes {', '.join(sorted(_KEYS[kind]))}; "
            f"unknown: {', '.join(unknown) or 'none'}; missing: {', '.join(missing) or 'none'}."
        )
    if "where" in operation and not operation["where"]:
        raise InvalidInput(
            f"The operation {place} ({kind}) has an empty 'where', which would touch every row: give conditions"
            + (", or leave 'where' out if every row is meant." if kind == "update" else ".")
        )


def natural(value: Any, what: str) -> int:
    """Return a limit, an offset or an expected number of rows.

    Raises:
        InvalidInput: it is not a whole number of at least 0.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise InvalidInput(f"The {what} must be a whole number of at least 0, not {value!r:.100}.")
    return value
