"""Reading one YAML file strictly, with the place of everything in it.

The events of PyYAML's parser (libyaml's, where there is one) are composed here rather than by a PyYAML loader: plain
values are those of YAML 1.2's core schema, so that ``no`` is a string and dates stay strings; only JSON comes out;
duplicate keys, tags and merge keys are refused; depth and size are limited, aliases counted as what they stand for.
It is also quicker than ``CSafeLoader``, and can tell where everything stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import yaml

from base04_builtin.action_discovery.faults import START, FaultLog, Position

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 64
MAX_VALUES: Final = 200_000

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

_OUTER: Final = 2
"""How deep places are noted at first: those of a pack's keys and of its actions."""

_ALL: Final = MAX_DEPTH + 1


@dataclass(frozen=True, slots=True)
class _Marks:
    """Where the entries of one container stand. ``container`` is held, so that its identity stays its own."""

    container: dict[str, Any] | list[Any]
    keys: dict[str | int, Position]
    values: dict[str | int, Position]


@dataclass(frozen=True, slots=True)
class _Tree:
    """Content and the places in it, those of containers that lie less than ``depth`` deep."""

    data: Any
    root: Position
    marks: Mapping[int, _Marks]
    depth: int


class Document:
    """The content of a YAML file, as JSON, and where each part of it stands.

    Only the outer places are noted when a file is read. Who asks for one further in has the file read once more, with
    all places: that takes twice as long, and happens only for files with a fault.
    """

    def __init__(self, tree: _Tree, text: str) -> None:
        self.data = tree.data
        self._tree = tree
        self._text = text

    def key(self, path: DocumentPath) -> Position:
        """Return where the last key of a path stands; where it is missing, where its container stands."""
        return self._find(path, keys=True)

    def value(self, path: DocumentPath) -> Position:
        """Return where the value at a path stands; where it is missing, the nearest container around it."""
        return self._find(path, keys=False)

    def _find(self, path: DocumentPath, *, keys: bool) -> Position:
        if len(path) > self._tree.depth:
            self._tree = _tree_of(self._text, FaultLog(""), _ALL)
        position, current = self._tree.root, self._tree.data
        for number, step in enumerate(path, 1):
            marks = self._tree.marks.get(id(current))
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
    document = _quickly_read(text)
    if document is not None:
        return document
    try:
        return Document(_tree_of(text, faults, _ALL), text)
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


def _quickly_read(text: str) -> Document | None:
    """Read a file without a fault in its YAML; None for any other, of which a slower reading tells what is wrong."""
    faults = FaultLog("")
    try:
        tree = _tree_of(text, faults, _OUTER)
    except (_Abort, yaml.YAMLError):
        return None
    return None if faults else Document(tree, text)


def _tree_of(text: str, faults: FaultLog, depth: int) -> _Tree:
    try:
        return _Composer(text, faults, depth).compose()
    except yaml.MarkedYAMLError as error:
        if "nesting depth" not in str(error.problem) or error.problem_mark is None:
            raise
        # The parser looks ahead and has a limit of its own, which it may meet before the composer meets MAX_DEPTH.
        # What stands before that place is deeper than is allowed, and without the rest the composer comes to it.
        return _Composer(text[: error.problem_mark.index], faults, depth).compose()


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
    """Builds the content from events; recursion is limited by ``MAX_DEPTH``.

    It notes where everything stands that lies less than ``depth`` deep.
    """

    def __init__(self, text: str, faults: FaultLog, depth: int) -> None:
        self._next: Callable[[], Any] = _Loader(text).get_event
        self._faults = faults
        self._depth = depth
        self._marks: dict[int, _Marks] = {}
        self._anchors: dict[str, Any] = {}
        self._sizes: dict[str, int] = {}
        self._count = 0

    def compose(self) -> _Tree:
        self._next()  # the start of the stream
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            self._faults.add(START, "The file is empty.")
            raise _Abort
        event = self._next()
        root = _position(event)
        data = self._value(event, 0)
        self._next()  # the end of the document
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            self._faults.add(_position(event), "A second document begins here: an action file holds one.")
        return _Tree(data, root, self._marks, self._depth)

    def _value(self, event: Any, depth: int) -> Any:
        self._count += 1
        if self._count > MAX_VALUES:
            self._abort(event, f"The file stands for more than {MAX_VALUES} values.")
        if depth > MAX_DEPTH:
            self._abort(event, f"This is nested more than {MAX_DEPTH} deep.")
        kind = type(event)
        if kind is yaml.AliasEvent:
            return self._alias(event, depth)
        before = self._count - 1
        if event.tag is not None:
            self._faults.add(_position(event), f"The tag {event.tag!r} is not allowed: write plain YAML.")
        value: Any
        if kind is yaml.ScalarEvent:
            value = self._scalar(event) if event.implicit[0] or event.tag is not None else event.value
        elif kind is yaml.MappingStartEvent:
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
        marks = _Marks(data, {}, {}) if depth < self._depth else None
        if marks is not None:
            self._marks[id(data)] = marks
        inner = depth + 1
        while type(event := self._next()) is not yaml.MappingEndEvent:
            key = self._key(event, inner)
            value_event = self._next()
            value = self._value(value_event, inner)
            if key is None:
                continue
            if key in data:
                self._faults.add(_position(event), f"The key {key!r} is here twice{_before(marks, key)}.")
                continue
            data[key] = value
            if marks is not None:
                marks.keys[key] = _position(event)
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
        positions: dict[str | int, Position] | None = {} if depth < self._depth else None
        if positions is not None:
            self._marks[id(data)] = _Marks(data, positions, positions)
        while type(event := self._next()) is not yaml.SequenceEndEvent:
            if positions is not None:
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


def _before(marks: _Marks | None, key: str) -> str:
    return f": it stands in line {marks.keys[key][0]} already" if marks is not None else ""


def _height(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_height, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_height, value), default=0)
    return 0
