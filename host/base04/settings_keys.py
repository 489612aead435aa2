"""The keys that settings models read, at every depth, so that a typo is found whatever the model says of extras."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import AliasChoices, AliasPath, BaseModel, RootModel

from base04.settings_source import KeyPath


def unknown_keys(
    annotation: Any, value: Any, also_known: Iterable[str] = (), path: KeyPath = ()
) -> Iterator[tuple[KeyPath, str]]:
    """Yield the path of every key that no model reads, with a message that names the nearest one.

    ``also_known`` are keys that somebody else reads at the top: not faults, and worth suggesting.
    """
    members = list(_members(annotation))
    models = [item for item in members if isinstance(item, type) and issubclass(item, BaseModel)]
    if isinstance(value, Mapping) and models:
        fields = {key: kind for model in models for key, kind in _fields(model)}
        known = {*fields, *also_known}
        closed = len(models) == len(members) and all(_refuses_extras(model) for model in models)
        for key, item in value.items():
            if key in fields:
                yield from unknown_keys(fields[key], item, path=(*path, key))
            elif closed and key not in known:
                yield (*path, key), no_such_key(str(key), known)
        return
    for kind in members:
        yield from _inside(kind, value, path)


def no_such_key(key: str, known: Iterable[str]) -> str:
    """Say that there is no such key, and which may have been meant."""
    names = sorted(known)
    close = difflib.get_close_matches(key, names, 1, 0.5)
    if close:
        return f"There is no such key; did you mean {close[0]!r}?"
    return f"There is no such key; there are {', '.join(names)}." if names else "There is no such key here."


def _members(annotation: Any) -> Iterator[Any]:
    """Yield what a value may be, without ``Annotated``, unions, None and root models."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        yield from _members(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for item in typing.get_args(annotation):
            yield from _members(item)
    elif isinstance(annotation, type) and issubclass(annotation, RootModel):
        yield from _members(annotation.model_fields["root"].annotation)
    elif annotation is not type(None):
        yield annotation


def _inside(kind: Any, value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    arguments = [item for item in typing.get_args(kind) if item is not ...]
    if isinstance(value, Mapping) and len(arguments) == 2:
        for key, item in value.items():
            yield from unknown_keys(arguments[1], item, path=(*path, key))
    elif isinstance(value, list) and arguments:
        for index, item in enumerate(value):
            yield from unknown_keys(arguments[min(index, len(arguments) - 1)], item, path=(*path, index))


def _refuses_extras(model: type[BaseModel]) -> bool:
    return model.model_config.get("extra") != "allow"


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    """Yield the keys that a model reads, aliases included, with what stands there."""
    config = model.model_config
    by_name = config.get("populate_by_name") or config.get("validate_by_name")
    for name, field in model.model_fields.items():
        aliases = _aliases(field.validation_alias) if config.get("validate_by_alias", True) else []
        for key in [*aliases, *([name] if by_name or not aliases else [])]:
            yield key, field.annotation


def _aliases(alias: str | AliasPath | AliasChoices | None) -> list[str]:
    if alias is None:
        return []
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return [str(choice.path[0]) if isinstance(choice, AliasPath) else choice for choice in choices]
