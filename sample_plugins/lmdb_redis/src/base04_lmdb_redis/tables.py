"""The tables of the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import lmdb

COUNT: Final = 6


@dataclass(frozen=True, slots=True)
class Tables:
    """Handles of the tables.

    ``values`` has records by index; ``lives`` is ``moment + index`` of those that end, ``tags`` is ``tag + index``;
    ``messages`` are by their number, ``listeners`` is ``channel + member`` with how many subscriptions it has, and
    ``meta`` holds numbers.
    """

    values: Any
    lives: Any
    tags: Any
    messages: Any
    listeners: Any
    meta: Any

    def all(self) -> tuple[Any, ...]:
        """Return every handle."""
        return (self.values, self.lives, self.tags, self.messages, self.listeners, self.meta)


def open_tables(environment: lmdb.Environment) -> Tables:
    """Make the tables where they are missing, and return their handles."""
    names = ("values", "lives", "tags", "messages", "listeners", "meta")
    return Tables(*(environment.open_db(name.encode()) for name in names))
