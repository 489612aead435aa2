"""Reading one action of a pack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from base04_builtin.action_discovery.arguments import arguments_validator, result_check
from base04_builtin.action_discovery.definition import PackDefinition
from base04_builtin.action_discovery.discreet import discreet
from base04_builtin.action_discovery.examples import read_examples
from base04_builtin.action_discovery.faults import nearest
from base04_builtin.action_discovery.fields import (
    Place,
    read_access,
    read_limits,
    read_names,
    read_text,
    read_timeout,
)
from base04_builtin.action_discovery.handler import Handler, HandlerModules, HandlerProblem, check_handler
from base04_builtin.action_discovery.policy import POLICY_KEYS, read_policy
from base04_builtin.action_discovery.schema import CompiledSchema, compile_schema
from base04_builtin.action_discovery.schema_keywords import SchemaPath
from base04_builtin.action_discovery.sources import PackFile
from base04_hookspecs.action_discovery import Action, ActionInfo

ACTION_KEYS: Final = (
    *("summary", "description", "handler", "access", "parameters", "required", "additionalProperties", "returns"),
    *("timeout", "rate_limit", "examples", "$defs"),
    *POLICY_KEYS,
)


class ActionReader:
    """Reads one action; faults go to the log of its file."""

    def __init__(self, place: Place, definitions: Mapping[str, Any], file: PackFile, modules: HandlerModules) -> None:
        self._place = place
        self._data = place.data
        self._shared = definitions
        self._file = file
        self._modules = modules

    def read(self, pack: str, version: str, short: str) -> Action | None:
        """Return the action; None where it has a fault."""
        place, name = self._place, f"{pack}.{short}"
        before = len(place.faults)
        place.refuse_unknown(ACTION_KEYS)
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
        examples = read_examples(place, compiled, result)
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
            "handler": _handler_name(self._data["handler"]),
            "access": access,
            "permissions": permissions,
            "parameters": arguments,
            "returns": returns,
            "timeout": timeout,
            "rate_limit": rate_limit,
            "examples": examples,
            "source": self._source(),
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
            handler, module = self._found(target)
        except HandlerProblem as problem:
            self._place.fault("handler", str(problem))
            return None
        self._check(handler, arguments)
        return handler, module

    def _found(self, target: Any) -> tuple[Handler, str]:
        if callable(target):  # of a pack that a plugin defines
            return target, str(getattr(target, "__module__", ""))
        if not isinstance(target, str):
            raise HandlerProblem(f"The handler {target!r} cannot be read: write 'package.module:function'.")
        if target.startswith(".") and isinstance(self._file, PackDefinition):
            raise HandlerProblem(f"The handler {target!r} is beside no file: give the function itself.")
        return self._modules.find(target, self._file)

    def _source(self) -> str:
        if isinstance(self._file, PackDefinition):
            return str(self._file)
        return f"{self._file}:{self._place.document.key(self._place.path)[0]}"

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


def _handler_name(target: Any) -> str:
    if isinstance(target, str):
        return target
    return f"{getattr(target, '__module__', '')}:{getattr(target, '__qualname__', type(target).__qualname__)}"


def _callables(
    name: str,
    compiled: CompiledSchema,
    result: CompiledSchema | None,
    handler: Handler,
    arguments: dict[str, Any],
) -> dict[str, Any]:
    runnable = handler if compiled.conceal is None else discreet(handler, compiled.conceal)
    return {
        "validate": arguments_validator(name, arguments, compiled.validator, compiled.fill),
        "load_handler": lambda: runnable,
        "check_result": None if result is None else result_check(name, result.validator),
        "conceal": compiled.conceal,
        "conceal_result": None if result is None else result.conceal,
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
