"""Packs that plugins define in Python rather than in files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from base04_builtin.action_discovery.document import MAX_DEPTH, DocumentPath
from base04_builtin.action_discovery.faults import START, FaultLog, Position
from base04_builtin.action_discovery.schema_keywords import pointer
from base04_builtin.action_discovery.sources import PackFile
from base04_hookspecs.app import ActionPackSource

NOWHERE: Final = Path()


@dataclass(frozen=True, slots=True)
class PackDefinition(PackFile):
    """A pack that a plugin defines; it has no file."""

    plugin: str = ""

    def __str__(self) -> str:
        return f"plugin {self.plugin!r}"


class DefinedDocument:
    """The content of a definition. A place in it is a number, of which its ``DefinitionLog`` knows the path."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self.paths: list[DocumentPath] = [()]

    def key(self, path: DocumentPath) -> Position:
        """Return the number of a place."""
        return self.value(path)

    def value(self, path: DocumentPath) -> Position:
        """Return the number of a place."""
        self.paths.append(path)
        return len(self.paths) - 1, 0


class DefinitionLog(FaultLog):
    """Tells of faults by the path that leads to them, as there are no lines."""

    def __init__(self, name: str, document: DefinedDocument) -> None:
        super().__init__(name)
        self._document = document

    def add(self, position: Position, message: str) -> None:
        """Note one fault."""
        path = self._document.paths[position[0]] if position[1] == 0 else ()
        super().add(START, f"{pointer(path)}: {message}" if path else message)


class NotPlain(Exception):
    """A definition holds something that no action file could; ``path`` leads to it."""

    def __init__(self, path: DocumentPath, message: str) -> None:
        super().__init__(message)
        self.path = path


def plain_definition(source: ActionPackSource) -> dict[str, Any]:
    """Copy a definition, so that nobody changes it later.

    Raises:
        NotPlain: it holds what is neither JSON nor, as a handler, a function.
    """
    copied = _copied(source["definition"], ())
    if not isinstance(copied, dict):
        raise NotPlain((), "A definition is a mapping, as an action file holds it.")
    return copied


def _copied(value: Any, path: DocumentPath) -> Any:
    if len(path) > MAX_DEPTH:
        raise NotPlain(path[:1], f"This is nested more than {MAX_DEPTH} deep.")
    if isinstance(value, Mapping):
        wrong = next((key for key in value if not isinstance(key, str)), None)
        if wrong is not None:
            raise NotPlain(path, f"A key must be a string, not {wrong!r}.")
        return {key: _copied(item, (*path, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item, (*path, index)) for index, item in enumerate(value)]
    if value is None or isinstance(value, str | int | float):
        if value != value or value in (float("inf"), float("-inf")):
            raise NotPlain(path, f"The number {value!r} is not JSON.")
        return value
    if isinstance(value, Callable) and path[-1:] == ("handler",):  # type: ignore[arg-type]  # an abstract class too
        return value
    raise NotPlain(path, f"{type(value).__name__!r} is neither JSON nor a function in the place of a handler.")
