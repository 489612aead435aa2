"""From the placeholders of ``execute_query`` to those of a driver.

A small tokenizer knows strings, quoted names and comments, so that nothing inside them is taken for a placeholder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from base04_builtin.database.dialects import Dialect
from base04_hookspecs.errors import InvalidInput

_COMMON: Final = r"""
    | (?P<cast>::)
    | :(?P<colon>[A-Za-z_]\w*)
    | %\((?P<percent>[A-Za-z_]\w*)\)s
    | (?P<ordered>%s(?!\w))
    | (?P<literal>%%)
    | (?P<space>[\s;]+)
"""
_FLAGS: Final = re.VERBOSE | re.DOTALL | re.ASCII
_SQLITE: Final = rf"""
      (?P<string>'(?:[^']|'')*(?:'|\Z))
    | (?P<quoted>"(?:[^"]|"")*(?:"|\Z) | `(?:[^`]|``)*(?:`|\Z) | \[[^\]]*(?:\]|\Z))
    | (?P<comment>--[^\n]* | /\*.*?(?:\*/|\Z))
    {_COMMON}
    | (?P<driver>\?)
    | (?P<word>\w+)
    | (?P<other>.)
"""
_POSTGRESQL: Final = rf"""
      (?P<string>[eE]'(?:[^'\\]|''|\\.)*(?:'|\Z) | '(?:[^']|'')*(?:'|\Z))
    | (?P<dollar>\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z))
    | (?P<quoted>"(?:[^"]|"")*(?:"|\Z))
    | (?P<comment>--[^\n]* | /\*)
    {_COMMON}
    | (?P<driver>\$\d+)
    | (?P<word>\w[\w$]*)
    | (?P<other>.)
"""
_NESTED: Final = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class Translated:
    """A statement with the driver's placeholders. ``names`` are their parameters, None for the mapping's order.

    ``count`` is how many values it takes, ``keyword`` its first word in lower case.
    """

    sql: str
    names: tuple[str, ...] | None
    count: int
    keyword: str

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
def translate(query: str, dialect: Dialect) -> Translated:
    """Replace ``:name``, ``%(name)s`` and ``%s`` by the placeholders of the dialect's driver, and ``%%`` by ``%``.

    Raises:
        InvalidInput: the statement is empty, or mixes ``%s`` with named placeholders.
    """
    parts: list[str] = []
    slots = _Slots(dialect.numbered)
    keyword = ""
    for kind, text in _tokens(query, dialect):
        if kind == "driver":
            raise InvalidInput(f"The statement has a placeholder {text!r}: write :name, %(name)s or %s.")
        if kind == "word" and not keyword:
            keyword = text.lower()
        parts.append(slots.take(kind, text))
    if not any(kind not in ("space", "comment") for kind, _ in _tokens(query, dialect)):
        raise InvalidInput("The statement is empty.")
    if slots.names and slots.ordered:
        raise InvalidInput("The statement mixes '%s' with named placeholders: use one kind.")
    names = None if slots.ordered else tuple(slots.names)
    return Translated("".join(parts), names, slots.ordered or len(slots.names), keyword)


class _Slots:
    """Hands out the driver's placeholders. A name that comes again takes its first number where they are numbered."""

    def __init__(self, numbered: bool) -> None:
        self.names: list[str] = []
        self.ordered = 0
        self._numbered = numbered

    def take(self, kind: str, text: str) -> str:
        if kind == "literal":
            return "%"
        if kind == "ordered":
            self.ordered += 1
            return f"${self.ordered}" if self._numbered else "?"
        if kind not in ("colon", "percent"):
            return text
        if not self._numbered or text not in self.names:
            self.names.append(text)
        return f"${self.names.index(text) + 1}" if self._numbered else "?"


def _tokens(query: str, dialect: Dialect) -> Iterator[tuple[str, str]]:
    """Yield the kind and the text of each token; for a named placeholder, its name."""
    grammar = _grammar(dialect)
    position = 0
    while match := grammar.match(query, position):
        kind = match.lastgroup or "other"
        position = match.end()
        if match[0] == "/*":
            start, position = match.start(), _comment_end(query, position)
            yield "comment", query[start:position]
        else:
            yield kind, match[kind] if kind in ("colon", "percent") else match[0]


def _comment_end(query: str, position: int) -> int:
    """Return where a comment ends whose ``/*`` has been read: on PostgreSQL comments nest."""
    depth = 1
    for mark in _NESTED.finditer(query, position):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(query)


@lru_cache(maxsize=2)
def _grammar(dialect: Dialect) -> re.Pattern[str]:
    return re.compile(_POSTGRESQL if dialect.name == "postgresql" else _SQLITE, _FLAGS)
