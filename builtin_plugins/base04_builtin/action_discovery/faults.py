"""What is wrong with action files, and the words for it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from base04_hookspecs.action_discovery import DefinitionFault

Position = tuple[int, int]
"""Line and column, both counted from 1."""

START: Final[Position] = (1, 1)


class FaultLog:
    """Collects everything that is wrong with one file; the same fault at the same place counts once."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._faults: dict[tuple[Position, str], DefinitionFault] = {}

    def add(self, position: Position, message: str) -> None:
        """Note one fault."""
        line, column = position
        self._faults[position, message] = {"file": self.file, "line": line, "column": column, "message": message}

    def __len__(self) -> int:
        return len(self._faults)

    def sorted(self) -> list[DefinitionFault]:
        """Return the faults in the order of the file."""
        return sorted(self._faults.values(), key=fault_order)


def fault_order(fault: DefinitionFault) -> tuple[str, int, int]:
    """Order faults by file, line and column."""
    return fault["file"], fault["line"], fault["column"]


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean '...'?`` for the known word that comes closest, or a full stop where none does."""
    found = difflib.get_close_matches(word[:80], list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else "."


def unknown_key(word: str, known: Iterable[str]) -> str:
    """Say that a key is unknown, with the nearest known one, or all of them where none comes close."""
    names = sorted(known)
    hint = nearest(word, names)
    if hint == ".":
        hint = f": the keys here are {', '.join(names)}."
    return f"The key {word!r} is not known{hint}"
