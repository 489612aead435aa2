"""Names of tables and columns: what is accepted before anything is quoted."""

from __future__ import annotations

import re
from typing import Final

from base04_hookspecs.errors import InvalidInput

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}\Z")
_RESERVED: Final = ("sqlite_", "pg_", "system.", "_base04_")


def check_name(name: object, kind: str) -> str:
    """Return a name of a table or column that can be used on every kind of database.

    Raises:
        InvalidInput: it is not an ASCII identifier of at most 63 characters.
    """
    if not isinstance(name, str) or not _NAME.match(name):
        raise InvalidInput(
            f"The {kind} name {name!r:.100} cannot be used: write a letter or '_', then letters, digits and '_', "
            "at most 63 characters in all."
        )
    return name


def check_table(name: object) -> str:
    """Return the name of a table, which must not be one that the database or the manager keeps for itself."""
    table = check_name(name, "table")
    if table.lower().startswith(_RESERVED):
        raise InvalidInput(f"The table name {table!r} is reserved: choose one that does not begin like that.")
    return table
