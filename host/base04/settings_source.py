"""Where settings come from: a YAML file whose keys keep their places, and environment variables."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import yaml

from base04.errors import SettingsError, SettingsFault

ENV_PREFIX: Final = "BASE04_"
KeyPath = tuple[str | int, ...]

_REFERENCE: Final = re.compile(r"\$\{(\w+):([^}]*)\}")
_MOST_VALUES: Final = 50_000  # aliases of aliases can make a short file mean billions
_DEEPEST: Final = 40


@dataclass(slots=True)
class SettingsDocument:
    """Settings as they were written, and where each key stands: ``base04.yaml:3:5`` or a variable's name.

    ``hidden`` are values that may be secrets, since they came from the environment, a file or the vault: no message
    shows them. ``moved`` are keys that were written below another one, and where.
    """

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[KeyPath, str] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    moved: dict[str, KeyPath] = field(default_factory=dict)

    def place(self, path: KeyPath) -> str:
        """Return the place of a key, or of the nearest key around it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return ""

    def below(self, *path: str) -> SettingsDocument:
        """Return what stands below a key as a document of its own."""
        values: Any = self.values
        for key in path:
            values = values.get(key, {}) if isinstance(values, dict) else {}
        count = len(path)
        places = {where[count:]: place for where, place in self.places.items() if where[:count] == path}
        return SettingsDocument(values if isinstance(values, dict) else {}, places, self.hidden)


def read_settings_file(path: Path) -> SettingsDocument:
    """Read a YAML file.

    Raises:
        SettingsError: it cannot be read, is not YAML, is not a mapping, or has a key twice; with line and column.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _fault(str(path), f"The settings cannot be read: {error}.") from error
    try:
        return _read_document(path, text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
        raise _fault(place, f"This is not valid YAML: {problem}.") from error
    except RecursionError:
        raise _fault(str(path), "The settings are nested too deeply.") from None


def _read_document(path: Path, text: str) -> SettingsDocument:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        document = SettingsDocument()
        if isinstance(node, yaml.MappingNode):
            _Reader(path, loader, document.places).fill(node, document.values, ())
        elif node is not None and loader.construct_object(node) is not None:
            raise _fault(f"{path}:1:1", "The settings must be a mapping, such as 'server: {port: 8000}'.")
        return document
    finally:
        loader.dispose()


class _Reader:
    """Turns YAML nodes into values and remembers where their keys stand."""

    def __init__(self, path: Path, loader: yaml.SafeLoader, places: dict[KeyPath, str]) -> None:
        self._path, self._loader, self._places = path, loader, places
        self._count = 0

    def fill(self, node: yaml.MappingNode, values: dict[str, Any], at: KeyPath) -> None:
        for key_node, value_node in node.value:
            key = self._scalar(key_node)
            place = self._place(key_node)
            if not isinstance(key, str):
                raise _fault(place, f"The key {key!r} is not a string; write it in quotes.")
            if key in values:
                raise _fault(place, f"The key {key!r} stands here a second time.", key)
            self._places[(*at, key)] = place
            values[key] = self._value(value_node, (*at, key))

    def _value(self, node: yaml.Node, at: KeyPath) -> Any:
        self._count += 1
        if len(at) > _DEEPEST:
            raise _fault(self._places.get(at, str(self._path)), "The settings are nested too deeply.")
        if self._count > _MOST_VALUES:
            raise _fault(self._places.get(at, str(self._path)), "The settings hold too many values.")
        if isinstance(node, yaml.MappingNode):
            values: dict[str, Any] = {}
            self.fill(node, values, at)
            return values
        if isinstance(node, yaml.SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                self._places[(*at, index)] = self._place(item)
                items.append(self._value(item, (*at, index)))
            return items
        return self._scalar(node)

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            return self._loader.construct_object(node)
        except ValueError:  # without its text, which has the value
            kind = node.tag.rpartition(":")[2]
            message = f"The value looks like a YAML {kind} and is none; if it is text, write it in quotes."
            raise _fault(self._place(node), message) from None

    def _place(self, node: yaml.Node) -> str:
        return f"{self._path}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"


def read_environment(environ: Mapping[str, str]) -> SettingsDocument:
    """Read ``BASE04_SERVER__PORT=8001`` as ``server.port``.

    Values stay text, which the settings models convert; a value that begins with ``[`` or ``{`` is read as YAML.
    """
    document = SettingsDocument()
    for name in sorted(environ):
        if not name.startswith(ENV_PREFIX) or name.startswith(f"{ENV_PREFIX}TEST_"):
            continue
        path = tuple(name.removeprefix(ENV_PREFIX).lower().split("__"))
        _put(document, path, _environment_value(name, environ[name]), name)
        document.hidden |= {environ[name]}
    return document


def _environment_value(name: str, text: str) -> Any:
    if not text.lstrip().startswith(("[", "{")):
        return text
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # without its text, which has the value
        raise _fault(name, "The value begins like a list or a mapping and is not valid YAML.") from None


def _put(document: SettingsDocument, path: tuple[str, ...], value: Any, place: str) -> None:
    target = document.values
    for depth, key in enumerate(path[:-1]):
        target = target.setdefault(key, {})
        document.places.setdefault(path[: depth + 1], place)
        if not isinstance(target, dict):
            raise _fault(place, f"{'.'.join(path[: depth + 1])} is set as a whole by another variable.")
    target[path[-1]] = value
    document.places[path] = place


def merge(base: SettingsDocument, over: SettingsDocument) -> SettingsDocument:
    """Lay one document over another: mappings are merged, everything else is replaced."""
    places = {**base.places, **over.places}
    return SettingsDocument(_merged(base.values, over.values), places, base.hidden | over.hidden)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        known = result.get(key)
        result[key] = _merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return result


def resolve_environment_references(document: SettingsDocument, environ: Mapping[str, str]) -> SettingsDocument:
    """Put in the values of ``${env:NAME}`` and ``${file:path}``; ``${secret:path#key}`` waits for the vault.

    Raises:
        SettingsError: a variable is not set, a file cannot be read, or it is no such reference; lists all.
    """
    faults: list[SettingsFault] = []
    found: set[str] = set()

    def lookup(kind: str, name: str, path: KeyPath) -> str | None:
        try:
            value = _referenced(kind, name, environ)
        except _NoReference as error:
            faults.append(SettingsFault(dotted(path), document.place(path), str(error)))
            return None
        if value:
            found.add(value)
        return value

    values = _replace(document.values, (), lookup)
    if faults:
        raise SettingsError(faults)
    return SettingsDocument(values, document.places, document.hidden | found)


class _NoReference(Exception):
    """A reference leads nowhere; the message says why."""


def _referenced(kind: str, name: str, environ: Mapping[str, str]) -> str | None:
    """Return what a reference stands for now, None for a secret."""
    if kind == "secret" and all(name.rpartition("#")):
        return None
    if kind not in ("env", "file") or not name:
        raise _NoReference(
            f"${{{kind}:...}} is no reference that can be followed; there are ${{env:NAME}}, ${{file:path}} and "
            "${secret:path#key}."
        )
    try:
        return environ[name] if kind == "env" else Path(name).expanduser().read_text(encoding="utf-8").rstrip("\n")
    except KeyError:
        raise _NoReference(f"The environment variable {name!r} is not set.") from None
    except (OSError, ValueError, RuntimeError) as error:  # a path with NUL, a home that is unknown
        why = getattr(error, "strerror", None) or "it is not a path to UTF-8 text"
        raise _NoReference(f"The file {name!r} cannot be read: {why}.") from error


def secret_references(values: Any) -> Iterator[tuple[str, str]]:
    """Yield path and key of every ``${secret:path#key}`` in a value."""
    return (reference for _, reference in secret_places(values))


def secret_places(value: Any, at: KeyPath = ()) -> Iterator[tuple[KeyPath, tuple[str, str]]]:
    """Yield where each ``${secret:path#key}`` stands in a value, with its path and key."""
    if isinstance(value, str):
        for kind, name in _REFERENCE.findall(value):
            if kind == "secret":
                path, _, key = name.rpartition("#")
                yield at, (path, key)
    elif isinstance(value, Mapping | list):
        for part, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from secret_places(item, (*at, part))


def put_in_secrets(document: SettingsDocument, secrets: Mapping[tuple[str, str], str]) -> SettingsDocument:
    """Put in the values of all ``${secret:path#key}``."""

    def lookup(kind: str, name: str, path: KeyPath) -> str | None:
        reference, _, key = name.rpartition("#")
        return secrets[reference, key] if kind == "secret" else None

    values = _replace(document.values, (), lookup)
    return replace(document, values=values, hidden=document.hidden | set(secrets.values()))


def _replace(value: Any, path: KeyPath, lookup: Callable[[str, str, KeyPath], str | None]) -> Any:
    if isinstance(value, str) and "${" in value:

        def substitute(match: re.Match[str]) -> str:
            found = lookup(match[1], match[2], path)
            return match[0] if found is None else found

        return _REFERENCE.sub(substitute, value)
    if isinstance(value, dict):
        return {key: _replace(item, (*path, key), lookup) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace(item, (*path, index), lookup) for index, item in enumerate(value)]
    return value


def dotted(path: KeyPath) -> str:
    """Write a key path as people do: ``managers.redis.server.url``."""
    return ".".join(str(part) for part in path) or "settings"


def _fault(place: str, message: str, key: str = "settings") -> SettingsError:
    return SettingsError([SettingsFault(key, place, message)])


def process_environment() -> Mapping[str, str]:
    """Return the environment of this process."""
    return os.environ
