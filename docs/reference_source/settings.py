"""Settings: those of the host, and the rows for a model, which the pages of the roles use."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from base04.settings import HostSettings
from base04_hookspecs.settings import parse_duration
from reference_source.page import Page, prose, table

SHOWN: Final = Path(__file__).parent.parent / "examples" / "run" / "base04.yaml"
"""The file that shows every key of the host, with a comment for each; tests hold it to that."""

HEADS: Final = ("key", "type", "default", "meaning")

_TYPES: Final = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Path: "path",
    SecretStr: "text, never printed",
}


def page() -> Page:
    """Return the page."""
    return Page.of("reference/settings.md", "Settings of the host", _host())


def _host() -> Iterator[str]:
    yield "[Run it](../run.md#settings) shows a file with all of them. Those of a provider are on the page of its role."
    meanings = _meanings(SHOWN.read_text(encoding="utf-8"))
    for prefix, model in host_models().items():
        yield from ("", f"## `{prefix.rstrip('.')}`" if prefix else "## The file", "", *prose(model.__doc__), "")
        told = {} if prefix else {name: _first_sentence(inner) for name, inner in _sections(model)}
        rows = [(*row[:3], row[3] or {**told, **meanings}.get(row[0].strip("`"), "")) for row in keys(model, prefix)]
        yield from table(HEADS, rows)


def _meanings(shown: str) -> dict[str, str]:
    """Return the comments of a settings file by the keys that they stand beside; any role's are those of a role."""
    found: dict[str, str] = {}
    above: list[str] = []
    for line in shown.splitlines():
        written = re.match(r"( *)([\w]+):[^#]*(?:# (.*))?$", line)
        if written is None:
            continue
        del above[len(written[1]) // 2 :]
        above.append("<role>" if above == ["managers"] else written[2])
        if written[3]:
            found.setdefault(".".join(above), written[3].replace("*", r"\*"))
    return found


def host_models() -> dict[str, type[BaseModel]]:
    """Return the models of the host's settings, by what comes before their keys."""
    roles = "managers"
    sections = {f"{name}.<role>." if name == roles else f"{name}.": model for name, model in _sections(HostSettings)}
    return {"": HostSettings, **sections}


def _sections(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the fields that are models of their own, or mappings of such."""
    for name, field in model.model_fields.items():
        for inner in (field.annotation, *typing.get_args(field.annotation)):
            if inspect.isclass(inner) and issubclass(inner, BaseModel):
                yield name, inner


def _first_sentence(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__doc__ or "").split(".\n")[0].split(". ")[0].rstrip(".")


def keys(model: type[BaseModel], prefix: str = "", *, deep: bool = False) -> Iterator[tuple[str, str, str, str]]:
    """Yield key, type, default and description of each field; ``deep`` goes into models within."""
    documented = _attribute_docstrings(model)
    for name, field in model.model_fields.items():
        kind = _type(field.annotation, field.metadata)
        description = field.description or documented.get(name, "")
        yield f"`{prefix}{name}`", kind, _default(field), description
        for inner in (field.annotation, *typing.get_args(field.annotation)) if deep else ():
            if inspect.isclass(inner) and issubclass(inner, BaseModel):
                yield from keys(inner, f"{prefix}{name}.", deep=True)


def _type(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Return what to write for a type, in the words of somebody who writes YAML."""
    if _is_duration(annotation, metadata):
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


def _is_duration(annotation: Any, metadata: Sequence[Any]) -> bool:
    return any(getattr(item, "func", None) is parse_duration for item in metadata) or any(
        _is_duration(inner, getattr(inner, "__metadata__", ())) for inner in typing.get_args(annotation)
    )


def _duration(seconds: float) -> str:
    """Return a duration as one would write it, in the largest unit that divides it."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds * 1000:g}ms"


def _default(field: Any) -> str:
    value = field.default
    if field.default_factory is not None:
        value = field.default_factory()
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, BaseModel) or value is None or value in ("", (), {}):
        return ""
    if isinstance(value, float) and _is_duration(field.annotation, field.metadata):
        return f"`{_duration(value)}`"
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _attribute_docstrings(model: type[BaseModel]) -> dict[str, str]:
    found = {}
    for cls in reversed([item for item in model.__mro__ if item.__module__.startswith("base04")]):
        body = typing.cast(ast.ClassDef, ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]).body
        for field, text in itertools.pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                found[field.target.id] = inspect.cleandoc(ast.literal_eval(text.value)).replace("\n", " ")
    return found
