"""Write reference.md from the contracts, the settings models and the command line.

Run ``python docs/generate_reference.py`` after a change to one of them; a test fails until that is done.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import re
import sys
import textwrap
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined
from typer.main import get_command

from base04.cli.program import program
from base04.discovery import Discovery, discover
from base04.settings import AuditSettings, HostSettings, LogSettings, PluginSettings, RoleSettings, ServerSettings
from base04_hookspecs import app, command_line, context, errors, health, host_hooks, manager, markers, provider
from base04_hookspecs.roles import ROLES
from base04_hookspecs.settings import parse_duration

TARGET: Final = Path(__file__).parent / "reference.md"
COMMAND: Final = "python docs/generate_reference.py"

_HOST_SETTINGS: Final[dict[str, type[BaseModel]]] = {
    "": HostSettings,
    "server.": ServerSettings,
    "plugins.": PluginSettings,
    "log.": LogSettings,
    "audit.": AuditSettings,
    "managers.<role>.": RoleSettings,
}
_TYPES: Final = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Path: "path",
    SecretStr: "text, never printed",
}


def reference() -> str:
    """Return the whole page."""
    found = discover(PluginSettings(), safe_mode=True)
    lines = [
        "# Reference",
        "",
        f"Generated from the code: do not edit, run `{COMMAND}`.",
        "",
        "Contents: [commands](#commands), [settings of the host](#settings-of-the-host), "
        "[host-wide hooks](#host-wide-hooks), [what every plugin imports](#what-every-plugin-imports), "
        "[the host](#the-host), and the roles",
        ", ".join(f"[{role}](#the-role-{role})" for role in ROLES) + ".",
        "",
        *_commands(),
        *_host_settings(),
        *_host_hooks(),
        *_imports(),
        *_host(),
        *(line for role in ROLES for line in _role(role, found)),
    ]
    return "\n".join(lines).rstrip() + "\n"


# Commands


def _commands() -> Iterator[str]:
    root: Any = get_command(program)
    yield from ("## Commands", "")
    yield from _options("base04", root)
    for name in sorted(root.commands):
        yield from _command(f"base04 {name}", root.commands[name])


def _command(name: str, command: Any) -> Iterator[str]:
    if hasattr(command, "commands"):
        for inner in sorted(command.commands):
            yield from _command(f"{name} {inner}", command.commands[inner])
    else:
        yield from _options(name, command)


def _options(name: str, command: Any) -> Iterator[str]:
    arguments = "".join(f" [{item.name}]" for item in command.params if item.param_type_name == "argument")
    yield from (f"### `{name}{arguments}`", "", command.help, "")
    shown = [item for item in command.params if not {"--install-completion", "--show-completion"} & {*item.opts}]
    for item in shown:
        label = item.name if item.param_type_name == "argument" else ", ".join(item.opts)
        yield f"* `{label}`: {item.help}" if item.help else f"* `{label}`"
    if shown:
        yield ""


# Settings


def _host_settings() -> Iterator[str]:
    yield from ("## Settings of the host", "")
    yield from ("[Run it](run.md#settings) says what they do.", "")
    yield from _table([row for prefix, model in _HOST_SETTINGS.items() for row in _keys(model, prefix)])


def _keys(model: type[BaseModel], prefix: str = "", *, deep: bool = False) -> Iterator[tuple[str, str, str, str]]:
    """Yield key, type, default and description of each field; ``deep`` goes into models within."""
    documented = _attribute_docstrings(model)
    for name, field in model.model_fields.items():
        kind = _type(field.annotation, field.metadata)
        description = field.description or documented.get(name, "")
        yield f"`{prefix}{name}`", kind, _default(field), description
        for inner in (field.annotation, *typing.get_args(field.annotation)) if deep else ():
            if inspect.isclass(inner) and issubclass(inner, BaseModel):
                yield from _keys(inner, f"{prefix}{name}.", deep=True)


def _type(annotation: Any, metadata: typing.Sequence[Any] = ()) -> str:
    """Return what to write for a type, in the words of somebody who writes YAML."""
    if any(getattr(item, "func", None) is parse_duration for item in metadata):
        return "duration"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(arguments[0], arguments[1:])
    if origin is typing.Literal:
        return ", ".join(f"`{item}`" for item in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(item) for item in arguments if item is not types.NoneType)
    if origin in (tuple, list, frozenset, set):
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        kind = _type(arguments[1])
        return kind if kind == "mapping" else f"mapping of {kind}"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "mapping"
    return str(_TYPES.get(annotation) or getattr(annotation, "__name__", annotation))


def _default(field: Any) -> str:
    value = field.default
    if field.default_factory is not None:
        value = field.default_factory()
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel) or value is None or value in ("", (), {}):
        return ""
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _attribute_docstrings(model: type[BaseModel]) -> dict[str, str]:
    body = typing.cast(ast.ClassDef, ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]).body
    found = {}
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            found[field.target.id] = inspect.cleandoc(ast.literal_eval(text.value)).replace("\n", " ")
    return found


def _table(rows: list[tuple[str, str, str, str]]) -> Iterator[str]:
    described = any(row[3] for row in rows)
    heads = ("key", "type", "default", "meaning")[: 4 if described else 3]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for row in rows:
        yield f"| {' | '.join(_code(cell).replace('|', chr(92) + '|') for cell in row[: len(heads)])} |"
    yield ""


# Hooks, contracts and values


def _host_hooks() -> Iterator[str]:
    yield from ("## Host-wide hooks", "", *_prose(host_hooks.__doc__), "")
    yield from ("They are in `base04_hookspecs.host_hooks`; implement one under its name with `@hookimpl`.", "")
    for function in _functions(host_hooks):
        yield from _function(function)
    yield from _values(host_hooks)


def _imports() -> Iterator[str]:
    yield from ("## What every plugin imports", "", "These are in `base04_hookspecs`.", "")
    for item in (provider.Provider, markers.Use, context.Principal, context.RequestContext):
        yield from _class(item)
    for function in (context.current_request, context.require_permission, context.grants, health.health_report):
        yield from _function(function)
    yield from _class(manager.Manager)
    yield from _methods(manager.Manager)
    yield from _class(command_line.CommandSession)
    yield from _methods(command_line.CommandSession)
    yield from ("### Errors", "", "All are in `base04_hookspecs.errors`.", "")
    tree = inspect.getdoc(errors) or ""
    yield from ("```text", inspect.cleandoc(tree.split("::", 1)[1].split("Messages never")[0]).strip(), "```", "")


def _host() -> Iterator[str]:
    yield from (
        "## The host",
        "",
        "Its contract is `base04_hookspecs.app.AppManager`; `base04.AppManager` keeps it.",
        "",
    )
    yield from _methods(app.AppManager)


def _role(role: str, found: Discovery) -> Iterator[str]:
    contract = ROLES[role]
    module = importlib.import_module(contract.__module__)
    yield from (f"## The role `{role}`", "", *_prose(contract.__doc__), "")
    yield f"The contract is `{contract.__module__}.{contract.__name__}`, version {contract.contract_version}."
    yield from (f"A plugin offers providers with `def {role}_providers() -> Iterable[Provider]`.", "")
    yield from _providers(role, found)
    yield from _methods(contract)
    yield from _values(module)


def _providers(role: str, found: Discovery) -> Iterator[str]:
    for candidate in found.candidates[role]:
        offered = candidate.provider
        facts = ["the default"] if offered.default else []
        facts += [f"capabilities {', '.join(f'`{item}`' for item in sorted(offered.capabilities))}"] * bool(
            offered.capabilities
        )
        facts += [f"needs the extra `{offered.extra}`"] if offered.extra else []
        told = f" ({'; '.join(facts)})" if facts else ""
        yield from (f"### Provider `{offered.name}` of `{role}`", "", f"{offered.summary.rstrip('.')}{told}.", "")
        yield from _provider_settings(_implementation(offered))


def _implementation(offered: provider.Provider) -> Any:
    module, _, name = offered.target.partition(":")
    return getattr(importlib.import_module(module), name)


def _provider_settings(implementation: Any) -> Iterator[str]:
    hints = typing.get_type_hints(implementation.__init__)
    models = [hint for hint in hints.values() if inspect.isclass(hint) and issubclass(hint, BaseModel)]
    for model in models:
        yield from (*_prose(model.__doc__), "")
        yield from _table(list(_keys(model, deep=True)))


def _functions(module: Any) -> list[Any]:
    return [item for item in vars(module).values() if inspect.isfunction(item) and item.__module__ == module.__name__]


def _function(function: Any, above: str = "") -> Iterator[str]:
    word = "async def" if inspect.iscoroutinefunction(function) else "def"
    yield from ("```python", f"{above}{word} {function.__name__}{_signature(function)}", "```", "")
    yield from (*_prose(function.__doc__), "")


def _methods(cls: type) -> Iterator[str]:
    for name, item in vars(cls).items():
        if isinstance(item, property) and item.fget is not None:
            yield from _function(item.fget, "@property\n")
        elif inspect.isfunction(item) and not name.startswith("_"):
            yield from _function(item)


def _signature(function: Any) -> str:
    signature = inspect.signature(function)
    parts, keyword_only = [], False
    for item in signature.parameters.values():
        if item.kind is item.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            parts.append("*")
        stars = "*" if item.kind is item.VAR_POSITIONAL else "**" if item.kind is item.VAR_KEYWORD else ""
        keyword_only = keyword_only or stars == "*"
        annotation = f": {item.annotation}" if item.annotation is not item.empty else ""
        equals = " = " if annotation else "="
        default = f"{equals}{item.default!r}" if item.default is not item.empty else ""
        parts.append(f"{stars}{item.name}{annotation}{default}")
        if item.kind is item.POSITIONAL_ONLY:
            parts.append("/")
    slashes = [index for index, part in enumerate(parts) if part == "/"]
    parts = [part for index, part in enumerate(parts) if part != "/" or index == slashes[-1]]
    returned = f" -> {signature.return_annotation}" if signature.return_annotation is not signature.empty else ""
    return f"({', '.join(parts)}){returned}"


def _class(cls: type) -> Iterator[str]:
    fields = re.split(r"\n    (?:@|(?:async )?def )", inspect.getsource(cls))[0].rstrip()
    yield from (f"### `{cls.__name__}`", "", "```python", fields, "```", "")


def _values(module: Any) -> Iterator[str]:
    """Yield the value types and aliases of a module, as they are written there."""
    source = inspect.getsource(module)
    shown = []
    for node in ast.parse(source).body:
        alias = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        if alias and not typing.cast(ast.Name, typing.cast(ast.Assign, node).targets[0]).id.startswith("_"):
            shown.append(typing.cast(str, ast.get_source_segment(source, node)))
        elif isinstance(node, ast.ClassDef) and not node.name.endswith("Manager"):
            first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
            shown.append("\n".join(source.splitlines()[first - 1 : node.end_lineno]))
    if shown:
        yield from ("### Values", "", "```python", "\n\n\n".join(shown), "```", "")


def _prose(docstring: str | None) -> Iterator[str]:
    """Turn a docstring into Markdown."""
    raises = False
    for line in inspect.cleandoc(docstring or "").splitlines():
        if line.rstrip() in ("Raises:", "Args:"):
            raises = True
            yield line
            yield ""
        elif raises and re.match(r"    \S", line):
            name, _, text = line.strip().partition(":")
            yield f"* `{name}`: {_code(text.strip())}"
        else:
            yield _code(line.removeprefix("    ") if raises else line)


def _code(text: str) -> str:
    return text.replace("``", "`")


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
    sys.stdout.write(f"Wrote {TARGET}.\n")
