"""Reading one action file into a pack of actions, or into everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from base04_builtin.action_discovery.arguments import arguments_validator, result_check
from base04_builtin.action_discovery.document import MAX_BYTES, START, Document, DocumentPath, read_document
from base04_builtin.action_discovery.faults import FaultLog, Position, nearest
from base04_builtin.action_discovery.fields import (
    NAME_RULE,
    Place,
    is_name,
    read_access,
    read_limits,
    read_name,
    read_names,
    read_text,
    read_timeout,
    read_version,
)
from base04_builtin.action_discovery.handler import Handler, HandlerProblem, check_handler, find_handler
from base04_builtin.action_discovery.policy import POLICY_KEYS, read_policy
from base04_builtin.action_discovery.schema import CompiledSchema, compile_schema
from base04_builtin.action_discovery.schema_keywords import SchemaPath
from base04_builtin.action_discovery.sources import PackFile
from base04_hookspecs.action_discovery import Action, ActionInfo

_PACK_KEYS: Final = ("pack", "version", "summary", "description", "actions", "$defs")
_ACTION_KEYS: Final = (
    *("summary", "description", "handler", "access", "parameters", "required", "additionalProperties", "returns"),
    *("timeout", "rate_limit", "$defs"),
    *POLICY_KEYS,
)


@dataclass(frozen=True, slots=True)
class Pack:
    """The actions of one file."""

    name: str
    version: str
    actions: tuple[Action, ...]


@dataclass(slots=True)
class PackReading:
    """What reading a file gave. ``name`` is known, and stands at ``position``, also where the pack has faults."""

    file: PackFile
    faults: FaultLog
    name: str = ""
    position: Position = START
    pack: Pack | None = None


def read_pack(file: PackFile) -> PackReading:
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
        _PackReader(reading, document).read()
    return reading


class _PackReader:
    def __init__(self, reading: PackReading, document: Document) -> None:
        self._reading = reading
        self._document = document
        self._faults = reading.faults

    def read(self) -> None:
        data = self._document.data
        if not isinstance(data, dict):
            self._faults.add(
                self._document.value(()), "An action file is a mapping with the keys 'pack' and 'actions'."
            )
            return
        place = Place(self._document, self._faults, (), data)
        place.refuse_unknown(_PACK_KEYS)
        place.require("pack", "version", "actions")
        self._reading.name = name = read_name(place, "pack")
        self._reading.position = self._document.value(("pack",))
        version = read_version(place)
        read_text(place, "summary")
        read_text(place, "description")
        definitions = self._mapping(place, "$defs")
        actions = [
            action
            for short, body in self._mapping(place, "actions").items()
            if (action := self._action(name, version, short, body, definitions)) is not None
        ]
        if place.data.get("actions") == {}:
            place.fault("actions", "'actions' must name at least one action.")
        if not self._faults:
            self._reading.pack = Pack(name, version, tuple(actions))

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
        return _ActionReader(place, definitions, self._reading.file).read(pack, version, short)


class _ActionReader:
    """Reads one action; faults go to the log of its file."""

    def __init__(self, place: Place, definitions: Mapping[str, Any], file: PackFile) -> None:
        self._place = place
        self._data = place.data
        self._shared = definitions
        self._file = file

    def read(self, pack: str, version: str, short: str) -> Action | None:
        place, name = self._place, f"{pack}.{short}"
        before = len(place.faults)
        place.refuse_unknown(_ACTION_KEYS)
        place.require("handler")
        access, permissions = read_access(place)
        rate_limit, limits = read_limits(place)
        timeout = read_timeout(place)
        summary, description = read_text(place, "summary"), read_text(place, "description")
        arguments = self._arguments()
        policy = read_policy(place, arguments["properties"])
        compiled = compile_schema(arguments, self._report_argument)
        returns = self._returns()
        result = None if returns is None else compile_schema(returns, self._report_result, fill=False)
        found = self._handler(arguments)
        if len(place.faults) > before or compiled is None or found is None:
            return None
        handler, module = found
        info: ActionInfo = {
            "name": name,
            "pack": pack,
            "pack_version": version,
            "summary": summary,
            "description": description,
            "module": module,
            "handler": self._data["handler"],
            "access": access,
            "permissions": permissions,
            "parameters": arguments,
            "returns": returns,
            "timeout": timeout,
            "rate_limit": rate_limit,
            "source": f"{self._file}:{place.document.key(place.path)[0]}",
            "run": policy.described(),
        }
        return Action(info, **_callables(name, compiled, result, handler, arguments), limits=limits, policy=policy)

    def _arguments(self) -> dict[str, Any]:
        """Return the schema of the arguments as a whole."""
        parameters = self._data.get("parameters", {})
        if not isinstance(parameters, dict):
            self._place.fault("parameters", "'parameters' must be a mapping from names to JSON Schemas.")
            parameters = {}
        schema: dict[str, Any] = {
            "type": "object",
            "properties": parameters,
            "required": read_names(self._place, "required", lambda name: self._undeclared(name, parameters)),
            "additionalProperties": self._data.get("additionalProperties", False),
        }
        return self._with_definitions(schema)

    @staticmethod
    def _undeclared(name: str, parameters: Mapping[str, Any]) -> str | None:
        if name in parameters:
            return None
        return f"'required' names {name!r}, which is not among the parameters{nearest(name, parameters)}"

    def _returns(self) -> dict[str, Any] | None:
        if "returns" not in self._data:
            return None
        returns = self._data["returns"]
        if not isinstance(returns, dict):
            self._place.fault("returns", "'returns' must be a mapping: the JSON Schema of the result.")
            return None
        return self._with_definitions(returns)

    def _with_definitions(self, schema: dict[str, Any]) -> dict[str, Any]:
        own = self._data.get("$defs", {})
        if not isinstance(own, dict):
            self._place.fault("$defs", "'$defs' must be a mapping from names to JSON Schemas.")
            own = {}
        definitions = {**self._shared, **own, **_mapping_of(schema.get("$defs"))}
        return {**schema, "$defs": definitions} if definitions else schema

    def _report_argument(self, path: SchemaPath, message: str, *, key: bool = False) -> None:
        if path and path[0] == "properties":
            path = ("parameters", *path[1:])
        self._report(path, message, key=key)

    def _report_result(self, path: SchemaPath, message: str, *, key: bool = False) -> None:
        within = path[0] != "$defs" or path[1] in _mapping_of(self._data["returns"].get("$defs")) if path else True
        self._report(("returns", *path) if within else path, message, key=key)

    def _report(self, path: SchemaPath, message: str, *, key: bool) -> None:
        """Note a fault at a path within the action, or within the definitions of the pack."""
        shared = len(path) > 1 and path[0] == "$defs" and path[1] not in _mapping_of(self._data.get("$defs"))
        full = path if shared else self._place.at(*path)
        document = self._place.document
        self._place.faults.add(document.key(full) if key else document.value(full), message)

    def _handler(self, arguments: dict[str, Any]) -> tuple[Handler, str] | None:
        target = self._data.get("handler")
        if target is None:
            if "handler" in self._data:
                self._place.fault("handler", "The handler is empty: write 'package.module:function'.")
            return None
        try:
            if not isinstance(target, str):
                raise HandlerProblem(f"The handler {target!r} cannot be read: write 'package.module:function'.")
            handler, module = find_handler(target, self._file)
        except HandlerProblem as problem:
            self._place.fault("handler", str(problem))
            return None
        self._check(handler, arguments)
        return handler, module

    def _check(self, handler: Handler, arguments: dict[str, Any]) -> None:
        parameters = arguments["properties"]
        defaults = [name for name, schema in parameters.items() if _has_default(schema, arguments)]
        wrong, problems = check_handler(
            handler,
            parameters=parameters,
            given={*arguments["required"], *defaults},
            others=arguments["additionalProperties"] is not False,
        )
        for name, problem in wrong.items():
            position = self._place.document.key(self._place.at("parameters", name))
            self._place.faults.add(position, problem)
        for problem in problems:
            self._place.fault("handler", problem)


def _callables(
    name: str,
    compiled: CompiledSchema,
    result: CompiledSchema | None,
    handler: Handler,
    arguments: dict[str, Any],
) -> dict[str, Any]:
    return {
        "validate": arguments_validator(name, compiled.validator, compiled.fill, arguments["properties"]),
        "load_handler": lambda: handler,
        "check_result": None if result is None else result_check(name, result.validator),
    }


def _mapping_of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _has_default(schema: Any, root: dict[str, Any]) -> bool:
    """Tell whether a parameter has a default, of its own or of the definition that it refers to."""
    definitions = _mapping_of(root.get("$defs"))
    for _ in range(len(definitions) + 1):
        if not isinstance(schema, dict):
            return False
        if "default" in schema:
            return True
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/$defs/"):
            return False
        schema = definitions.get(reference.removeprefix("#/$defs/"))
    return False
