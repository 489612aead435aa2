"""Settings: those of the host, and the rows for a model, which the pages of the roles use."""

from __future__ import annotations

import ast
import inspect
import itertools
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
from reference_source.page import Page, table

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
    yield from ("[Run it](../run.md#settings) says what they do. Those of a provider are on the page of its role.", "")
    yield from table(HEADS, [row for prefix, model in host_models().items() for row in keys(model, prefix)])


def host_models() -> dict[str, type[BaseModel]]:
    """Return the models of the host's settings, by what comes before their keys."""
    found: dict[str, type[BaseModel]] = {"": HostSettings}
    for name, field in HostSettings.model_fields.items():
        if typing.get_origin(field.annotation) is dict:
            found[f"{name}.<role>."] = typing.get_args(field.annotation)[1]
        elif inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel):
            found[f"{name}."] = field.annotation
    return found


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
