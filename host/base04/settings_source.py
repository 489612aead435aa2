"""Where settings come from: a YAML file whose keys keep their places, and environment variables."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from base04.errors import SettingsError, SettingsFault

ENV_PREFIX: Final = "BASE04_"
KeyPath = tuple[str | int, ...]

_REFERENCE: Final = re.compile(r"\$\{(env|file|secret):([^}]*)\}")


@dataclass(slots=True)
class SettingsDocument:
    """Settings as they were written, and where each key stands: ``base04.yaml:3:5`` or a variable's name."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[KeyPath, str] = field(default_factory=dict)

    def place(self, path: KeyPath) -> str:
        """Return the place of a key, or of the nearest key around it."""
        while path:
            if path in self.places:
                return self.places[path]
            path = path[:-1]
        return ""

    def below(self, *path: str) -> SettingsDocument:
        """Return what stands below a key as a document of its own."""
        values: Any = self.values
        for key in path:
            values = values.get(key, {}) if isinstance(values, dict) else {}
        count = len(path)
        places = {where[count:]: place for where, place in self.places.items() if where[:count] == path}
        return SettingsDocument(values if isinstance(values, dict) else {}, places)


def read_settings_file(path: Path) -> SettingsDocument:
    """Read a YAML file.

    Raises:
        SettingsError: it cannot be read, is not YAML, is not a mapping, or has a key twice; with line and column.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _fault(str(path), f"The settings cannot be read: {error}.") from error
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        document = SettingsDocument()
        if node is not None:
            if not isinstance(node, yaml.MappingNode):
                raise _fault(f"{path}:1:1", "The settings must be a mapping, such as 'server: {port: 8000}'.")
            _Reader(path, loader, document.places).fill(node, document.values, ())
        return document
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error)
        raise _fault(place, f"This is not valid YAML: {problem}.") from error
    finally:
        loader.dispose()


class _Reader:
    """Turns YAML nodes into values and remembers where their keys stand."""

    def __init__(self, path: Path, loader: yaml.SafeLoader, places: dict[KeyPath, str]) -> None:
        self._path, self._loader, self._places = path, loader, places

    def fill(self, node: yaml.MappingNode, values: dict[str, Any], at: KeyPath) -> None:
        for key_node, value_node in node.value:
            key = self._loader.construct_object(key_node)
            place = f"{self._path}:{key_node.start_mark.line + 1}:{key_node.start_mark.column + 1}"
            if not isinstance(key, str):
                raise _fault(place, f"The key {key!r} is not a string; write it in quotes.")
            if key in values:
                raise _fault(place, f"The key {key!r} stands here a second time.", key)
            self._places[(*at, key)] = place
            values[key] = self._value(value_node, (*at, key))

    def _value(self, node: yaml.Node, at: KeyPath) -> Any:
        if len(at) > 40:
            raise _fault(self._places.get(at, str(self._path)), "The settings are nested too deeply.")
        if isinstance(node, yaml.MappingNode):
            values: dict[str, Any] = {}
            self.fill(node, values, at)
            return values
        if isinstance(node, yaml.SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                self._places[(*at, index)] = f"{self._path}:{item.start_mark.line + 1}:{item.start_mark.column + 1}"
                items.append(self._value(item, (*at, index)))
            return items
        return self._loader.construct_object(node)


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
    return document


def _environment_value(name: str, text: str) -> Any:
    if not text.lstrip().startswith(("[", "{")):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _fault(name, "The value begins like a list or a mapping and is not valid YAML.") from error


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
    return SettingsDocument(_merged(base.values, over.values), {**base.places, **over.places})


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        known = result.get(key)
        result[key] = _merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return result


def resolve_environment_references(document: SettingsDocument, environ: Mapping[str, str]) -> SettingsDocument:
    """Put in the values of ``${env:NAME}`` and ``${file:path}``; ``${secret:...}`` waits for the vault.

    Raises:
        SettingsError: a variable is not set or a file cannot be read; lists all.
    """
    faults: list[SettingsFault] = []

    def lookup(kind: str, name: str, path: KeyPath) -> str | None:
        if kind == "secret":
            return None
        try:
            return environ[name] if kind == "env" else Path(name).expanduser().read_text(encoding="utf-8").rstrip("\n")
        except KeyError:
            message = f"The environment variable {name!r} is not set."
        except (OSError, UnicodeDecodeError) as error:
            message = f"The file {name!r} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}."
        faults.append(SettingsFault(dotted(path), document.place(path), message))
        return ""

    values = _replace(document.values, (), lookup)
    if faults:
        raise SettingsError(faults)
    return SettingsDocument(values, document.places)


def secret_references(values: Any) -> Iterator[tuple[str, str]]:
    """Yield path and key of every ``${secret:path#key}`` in a value."""
    if isinstance(values, str):
        for kind, name in _REFERENCE.findall(values):
            if kind == "secret":
                path, _, key = name.rpartition("#")
                yield path, key
    elif isinstance(values, Mapping):
        for item in values.values():
            yield from secret_references(item)
    elif isinstance(values, list):
        for item in values:
            yield from secret_references(item)


def put_in_secrets(values: dict[str, Any], secrets: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """Put in the values of all ``${secret:path#key}``."""

    def lookup(kind: str, name: str, path: KeyPath) -> str | None:
        reference, _, key = name.rpartition("#")
        return secrets[reference, key] if kind == "secret" else None

    result: dict[str, Any] = _replace(values, (), lookup)
    return result


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
