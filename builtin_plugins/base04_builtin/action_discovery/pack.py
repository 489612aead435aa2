"""Reading one action file into a pack of actions, or into everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from base04_builtin.action_discovery.action import ActionReader
from base04_builtin.action_discovery.definition import (
    NOWHERE,
    DefinedDocument,
    DefinitionLog,
    NotPlain,
    PackDefinition,
    plain_definition,
)
from base04_builtin.action_discovery.document import MAX_BYTES, Document, DocumentPath, read_document
from base04_builtin.action_discovery.faults import START, FaultLog, Position
from base04_builtin.action_discovery.fields import (
    NAME_RULE,
    Place,
    is_name,
    read_name,
    read_names,
    read_text,
    read_version,
)
from base04_builtin.action_discovery.handler import HandlerModules
from base04_builtin.action_discovery.metadata import read_permissions, read_requirement
from base04_builtin.action_discovery.sources import PackFile
from base04_hookspecs.action_discovery import Action, PackInfo
from base04_hookspecs.app import ActionPackSource

PACK_KEYS: Final = (
    *("pack", "version", "summary", "description", "authors", "requires", "permissions", "actions", "$defs"),
)


@dataclass(frozen=True, slots=True)
class Pack:
    """The actions of one file."""

    info: PackInfo
    actions: tuple[Action, ...]

    @property
    def name(self) -> str:
        """What it is called."""
        return self.info["name"]


@dataclass(slots=True)
class PackReading:
    """What reading a file gave. ``name`` is known, and stands at ``position``, also where the pack has faults."""

    file: PackFile
    faults: FaultLog
    name: str = ""
    position: Position = START
    pack: Pack | None = None


def read_pack(file: PackFile, modules: HandlerModules | None = None) -> PackReading:
    """Read one action file and import the handlers that it names. Never raises for what is in the file."""
    reading = PackReading(file, FaultLog(str(file)))
    try:
        with file.path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        reading.faults.add(START, f"The file cannot be read: {error.strerror}.")
        return reading
    document = read_document(content, reading.faults)
    if document is not None:
        _PackReader(reading, document, modules or HandlerModules()).read()
    return reading


def read_definition(source: ActionPackSource, modules: HandlerModules) -> PackReading:
    """Read one pack that a plugin defines. Never raises for what is in it."""
    file = PackDefinition(NOWHERE, None, source["plugin"])
    try:
        document = DefinedDocument(plain_definition(source))
    except NotPlain as error:
        document = DefinedDocument({})
        reading = PackReading(file, DefinitionLog(str(file), document))
        reading.faults.add(document.value(error.path), str(error))
        return reading
    reading = PackReading(file, DefinitionLog(str(file), document))
    _PackReader(reading, document, modules).read()
    return reading


class _PackReader:
    def __init__(self, reading: PackReading, document: Document | DefinedDocument, modules: HandlerModules) -> None:
        self._reading = reading
        self._document = document
        self._modules = modules
        self._faults = reading.faults

    def read(self) -> None:
        data = self._document.data
        if not isinstance(data, dict):
            self._faults.add(
                self._document.value(()), "An action file is a mapping with the keys 'pack' and 'actions'."
            )
            return
        place = Place(self._document, self._faults, (), data)
        place.refuse_unknown(PACK_KEYS)
        place.require("pack", "version", "actions")
        self._reading.name = name = read_name(place, "pack")
        self._reading.position = self._document.value(("pack",))
        version = read_version(place)
        summary, description = read_text(place, "summary"), read_text(place, "description")
        authors = read_names(place, "authors", lambda name: None if name.strip() else "An author has a name.")
        requires, permissions = read_requirement(place), read_permissions(place)
        definitions = self._mapping(place, "$defs")
        actions = [
            action
            for short, body in self._mapping(place, "actions").items()
            if (action := self._action(name, version, short, body, definitions)) is not None
        ]
        if place.data.get("actions") == {}:
            place.fault("actions", "'actions' must name at least one action.")
        if not self._faults:
            info: PackInfo = {
                "name": name,
                "version": version,
                "summary": summary,
                "description": description,
                "authors": authors,
                "requires": requires,
                "permissions": permissions,
                "actions": [action.name for action in actions],
                "source": str(self._reading.file),
            }
            self._reading.pack = Pack(info, tuple(actions))

    def _mapping(self, place: Place, key: str) -> dict[str, Any]:
        value = place.data.get(key, {})
        if isinstance(value, dict):
            return value
        place.fault(key, f"{key!r} must be a mapping.")
        return {}

    def _action(self, pack: str, version: str, short: str, body: Any, definitions: Mapping[str, Any]) -> Action | None:
        path: DocumentPath = ("actions", short)
        if not is_name(short):
            self._faults.add(self._document.key(path), f"The name {short!r} cannot be used: {NAME_RULE}")
        if not isinstance(body, dict):
            self._faults.add(self._document.value(path), f"The action {short!r} must be a mapping with a 'handler'.")
            return None
        place = Place(self._document, self._faults, path, body)
        return ActionReader(place, definitions, self._reading.file, self._modules).read(pack, version, short)
