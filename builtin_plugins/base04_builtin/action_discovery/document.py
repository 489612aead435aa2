"""Reading one YAML file strictly, with the place of everything in it.

The events of PyYAML's parser (libyaml's, where there is one) are composed here rather than by a PyYAML loader: plain
values are those of YAML 1.2's core schema, so that ``no`` is a string and dates stay strings; only JSON comes out;
duplicate keys, tags and merge keys are refused; depth and size are limited, aliases counted as what they stand for.
It is also twice as quick as ``CSafeLoader``, and knows where everything stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import yaml

from base04_builtin.action_discovery.faults import FaultLog, Position

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 64
MAX_VALUES: Final = 200_000

START: Final[Position] = (1, 1)

DocumentPath = tuple[str | int, ...]
"""The keys and indexes that lead from the root of a document to a value."""

_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONSTANTS: Final[Mapping[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER: Final = re.compile(r"[-+]?[0-9]+\Z")
_OTHER_BASE: Final = re.compile(r"0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")
_MAX_DIGITS: Final = 300


@dataclass(frozen=True, slots=True)
class _Marks:
    """Where the entries of one container stand. ``container`` is held, so that its identity stays its own."""

    container: dict[str, Any] | list[Any]
    keys: dict[str | int, Position]
    values: dict[str | int, Position]


class Document:
    """The content of a YAML file, as JSON, and where each part of it stands."""

    def __init__(self, data: Any, root: Position, marks: Mapping[int, _Marks]) -> None:
        self.data = data
        self._root = root
        self._marks = marks

    def key(self, path: DocumentPath) -> Position:
        """Return where the last key of a path stands; where it is missing, where its container stands."""
        return self._find(path, keys=True)

    def value(self, path: DocumentPath) -> Position:
        """Return where the value at a path stands; where it is missing, the nearest container around it."""
        return self._find(path, keys=False)

    def _find(self, path: DocumentPath, *, keys: bool) -> Position:
        position, current = self._root, self.data
        for number, step in enumerate(path, 1):
            marks = self._marks.get(id(current))
            if marks is None or step not in marks.values:
                break
            position = (marks.keys if keys and number == len(path) else marks.values)[step]
            current = marks.container[step]  # type: ignore[index]  # `step` is one of its keys or indexes
        return position


class _Abort(Exception):
    """Reading on makes no sense; the fault is noted."""


def read_document(content: bytes, faults: FaultLog) -> Document | None:
    """Read a file of one YAML document. What is wrong goes to ``faults``; None where nothing could be read."""
    if len(content) > MAX_BYTES:
        faults.add(START, f"The file is larger than {MAX_BYTES // 1024} KiB, the most that an action file may have.")
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        faults.add(_position_at(content[: error.start].decode("utf-8", "replace")), "The file is not UTF-8.")
        return None
    try:
        return _composed(text, faults)
    except _Abort:
        return None
    except yaml.reader.ReaderError as error:
        position = _position_at(content[: error.position].decode("utf-8", "replace"))
        faults.add(position, f"The character {_code_point(error.character)} is not allowed in YAML.")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = (mark.line + 1, mark.column + 1) if mark else START
        faults.add(position, _syntax_message(error, text, position))
    return None


def _composed(text: str, faults: FaultLog) -> Document | None:
    try:
        return _Composer(yaml.parse(text, Loader=_Loader), faults).compose()
    except yaml.MarkedYAMLError as error:
        if "nesting depth" not in str(error.problem) or error.problem_mark is None:
            raise
        # The parser looks ahead and has a limit of its own, which it may meet before the composer meets MAX_DEPTH.
        # What stands before that place is deeper than is allowed, and without the rest the composer comes to it.
        return _Composer(yaml.parse(text[: error.problem_mark.index], Loader=_Loader), faults).compose()


def _position_at(before: str) -> Position:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _code_point(character: int | str) -> str:
    return f"U+{character if isinstance(character, int) else ord(character):04X}"


def _syntax_message(error: yaml.MarkedYAMLError, text: str, position: Position) -> str:
    line, column = position
    if text.split("\n")[line - 1 : line] and text.split("\n")[line - 1][column - 1 : column] == "\t":
        return "This is not YAML: a tab cannot indent, write spaces."
    parts = [part for part in (error.context, error.problem) if part]
    return f"This is not YAML: {', '.join(parts)}."


def _position(event: Any) -> Position:
    mark = event.start_mark
    return mark.line + 1, mark.column + 1


class _Composer:
    """Builds the content from events; recursion is limited by ``MAX_DEPTH``."""

    def __init__(self, events: Iterator[Any], faults: FaultLog) -> None:
        self._events = events
        self._faults = faults
        self._marks: dict[int, _Marks] = {}
        self._anchors: dict[str, Any] = {}
        self._sizes: dict[str, int] = {}
        self._count = 0

    def compose(self) -> Document | None:
        next(self._events)  # the start of the stream
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            self._faults.add(START, "The file is empty.")
            return None
        event = next(self._events)
        root = _position(event)
        data = self._value(event, 0)
        next(self._events)  # the end of the document
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            self._faults.add(_position(event), "A second document begins here: an action file holds one.")
        return Document(data, root, self._marks)

    def _value(self, event: Any, depth: int) -> Any:
        self._count += 1
        if self._count > MAX_VALUES:
            self._abort(event, f"The file stands for more than {MAX_VALUES} values.")
        if depth > MAX_DEPTH:
            self._abort(event, f"This is nested more than {MAX_DEPTH} deep.")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        before = self._count - 1
        if event.tag is not None:
            self._faults.add(_position(event), f"The tag {event.tag!r} is not allowed: write plain YAML.")
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event) if event.implicit[0] or event.tag is not None else event.value
        elif isinstance(event, yaml.MappingStartEvent):
            value = self._mapping(depth)
        else:
            value = self._sequence(depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = value
            self._sizes[event.anchor] = self._count - before
        return value

    def _alias(self, event: Any, depth: int) -> Any:
        if event.anchor not in self._anchors:
            self._abort(event, f"The alias '*{event.anchor}' has no anchor '&{event.anchor}' that ends before it.")
        value = self._anchors[event.anchor]
        self._count += self._sizes[event.anchor] - 1
        if self._count > MAX_VALUES:
            self._abort(event, f"With its aliases the file stands for more than {MAX_VALUES} values.")
        if depth + _height(value) > MAX_DEPTH:
            self._abort(event, f"With its aliases this is nested more than {MAX_DEPTH} deep.")
        return value

    def _mapping(self, depth: int) -> dict[str, Any]:
        data: dict[str, Any] = {}
        marks = _Marks(data, {}, {})
        self._marks[id(data)] = marks
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            position = _position(event)
            key = self._key(event, depth + 1)
            value_event = next(self._events)
            value = self._value(value_event, depth + 1)
            if key is None:
                continue
            if key in data:
                first = marks.keys[key][0]
                self._faults.add(position, f"The key {key!r} is here twice: it stands in line {first} already.")
                continue
            data[key] = value
            marks.keys[key] = position
            marks.values[key] = _position(value_event)
        return data

    def _key(self, event: Any, depth: int) -> str | None:
        """Return a key; None for one that cannot be used, which is noted."""
        key = self._value(event, depth)
        if isinstance(key, str) and not (key == "<<" and event.implicit[0]):
            return key
        if key == "<<":
            message = "Merge keys ('<<') are not part of YAML 1.2: write the keys out."
        elif isinstance(key, dict | list):
            message = "A key must be a string, not a mapping or a list."
        else:
            message = f'A key must be a string: write "{getattr(event, "value", key)}" in quotes.'
        self._faults.add(_position(event), message)
        return None

    def _sequence(self, depth: int) -> list[Any]:
        data: list[Any] = []
        positions: dict[str | int, Position] = {}
        self._marks[id(data)] = _Marks(data, positions, positions)
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            positions[len(data)] = _position(event)
            data.append(self._value(event, depth + 1))
        return data

    def _scalar(self, event: Any) -> Any:
        """Read a plain scalar by the core schema (YAML 1.2.2, section 10.3.2)."""
        text: str = event.value
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if text[0] not in "0123456789+-.":
            return text
        if _FLOAT.match(text):
            return self._number(event, text)
        if _OTHER_BASE.match(text) and len(text) <= _MAX_DIGITS:
            return int(text, 0)
        if _NOT_FINITE.match(text):
            self._faults.add(_position(event), f"The number {text} is not JSON.")
            return None
        return text

    def _number(self, event: Any, text: str) -> int | float | None:
        if len(text) <= _MAX_DIGITS:
            if _INTEGER.match(text):
                return int(text)
            number = float(text)
            if abs(number) != float("inf"):
                return number
        self._faults.add(_position(event), "This number is too large.")
        return None

    def _abort(self, event: Any, message: str) -> NoReturn:
        self._faults.add(_position(event), message)
        raise _Abort


def _height(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_height, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_height, value), default=0)
    return 0
