"""From the placeholders of ``execute_query`` to those of a driver.

A small tokenizer knows strings, quoted names and comments, so that nothing inside them is taken for a placeholder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from base04_hookspecs.errors import InvalidInput

_TOKEN: Final = re.compile(
    r"""
      (?P<string>'(?:[^']|'')*(?:'|\Z))
    | (?P<quoted>"(?:[^"]|"")*(?:"|\Z) | `(?:[^`]|``)*(?:`|\Z) | \[[^\]]*(?:\]|\Z))
    | (?P<comment>--[^\n]* | /\*.*?(?:\*/|\Z))
    | (?P<cast>::)
    | :(?P<colon>[A-Za-z_]\w*)
    | %\((?P<percent>[A-Za-z_]\w*)\)s
    | (?P<ordered>%s(?!\w))
    | (?P<literal>%%)
    | (?P<space>[\s;]+)
    | (?P<word>\w+)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Translated:
    """A statement with ``?`` for each value. ``names`` are their parameters in order, or None for the mapping's order.

    ``count`` is how many values it takes.
    """

    sql: str
    names: tuple[str, ...] | None
    count: int

    def values(self, params: Mapping[str, Any] | None) -> list[tuple[str, Any]]:
        """Return the name and value of each placeholder, in order.

        Raises:
            InvalidInput: parameters are missing, or do not fit the number of ``%s``.
        """
        given = dict(params or {})
        if self.names is None:
            if len(given) != self.count:
                raise InvalidInput(f"The statement has {self.count} placeholders '%s', and {len(given)} values came.")
            return list(given.items())
        missing = sorted(set(self.names) - given.keys())
        if missing:
            raise InvalidInput(f"The statement needs values for the parameters {', '.join(missing)}.")
        return [(name, given[name]) for name in self.names]


@lru_cache(maxsize=1024)
def translate(query: str) -> Translated:
    """Replace ``:name``, ``%(name)s`` and ``%s`` by ``?``, and ``%%`` by ``%``.

    Raises:
        InvalidInput: the statement is empty, or mixes ``%s`` with named placeholders.
    """
    parts: list[str] = []
    names: list[str] = []
    ordered = 0
    empty = True
    for token in _TOKEN.finditer(query):
        kind = token.lastgroup
        empty = empty and kind in ("space", "comment")
        if kind in ("colon", "percent"):
            names.append(token[kind])
        elif kind == "ordered":
            ordered += 1
        parts.append("?" if kind in ("colon", "percent", "ordered") else "%" if kind == "literal" else token[0])
        if token[0] == "?":
            raise InvalidInput("The statement has a placeholder '?': write :name, %(name)s or %s.")
    if empty:
        raise InvalidInput("The statement is empty.")
    if names and ordered:
        raise InvalidInput("The statement mixes '%s' with named placeholders: use one kind.")
    return Translated("".join(parts), None if ordered else tuple(names), ordered or len(names))
