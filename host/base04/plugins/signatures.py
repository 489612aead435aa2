"""Fitting what plugins wrote to what the host calls it with: once, when it is collected, and never at a call."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from typing import Any

from base04.errors import HostError
from base04_hookspecs.host_hooks import Arguments

_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class SignatureRefused(HostError):
    """A callable or a hook asks for something that the host does not offer."""


def fitted(function: Any, arguments: Arguments, hook: str) -> Any:
    """Return a callable that takes all that is offered and passes on what ``function`` takes; itself where that is all.

    It gets the arguments of the first version by their place, as many as it takes, and those by name that it has a
    parameter of that name for.

    Raises:
        SignatureRefused: it is no callable, or asks for something else.
    """
    if not callable(function):
        raise SignatureRefused(f"Its hook {hook!r} gave {_shown(function)}, which is not callable.")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of an extension module: it takes what it takes
        return function
    parameters = list(signature.parameters.values())
    by_place = [item for item in parameters if item.kind in _BY_PLACE and item.name not in arguments.named]
    any_place = any(item.kind is item.VAR_POSITIONAL for item in parameters)
    any_name = any(item.kind is item.VAR_KEYWORD for item in parameters)
    places = len(arguments.positional) if any_place else min(len(arguments.positional), len(by_place))
    only_named = {item.name for item in parameters if item.kind is item.KEYWORD_ONLY}
    named = [name for name in arguments.named if any_name or name in signature.parameters]
    moved = {name: place for place, name in enumerate(arguments.positional) if name in only_named}
    unknown = [item.name for item in by_place[places:] if item.default is item.empty]
    unknown += sorted(
        item.name
        for item in parameters
        if item.kind is item.KEYWORD_ONLY
        and item.default is item.empty
        and item.name not in {*arguments.named, *arguments.positional}
    )
    if unknown:
        raise SignatureRefused(
            f"The callable {_name(function)}{signature} of its hook {hook!r} asks for {_quoted(unknown)}; the host "
            f"offers {_quoted((*arguments.positional, *arguments.named))}."
        )
    if places == len(arguments.positional) and len(named) == len(arguments.named) and not moved:
        return function

    def taken(given: tuple[Any, ...], offered: dict[str, Any]) -> dict[str, Any]:
        found = {name: offered[name] for name in named if name in offered}
        return found | {name: given[place] for name, place in moved.items()}

    @functools.wraps(function)
    async def awaiting(*given: Any, **offered: Any) -> Any:
        return await function(*given[:places], **taken(given, offered))

    @functools.wraps(function)
    def passing_on(*given: Any, **offered: Any) -> Any:
        return function(*given[:places], **taken(given, offered))

    return awaiting if is_async(function) else passing_on


def is_async(function: Any) -> bool:
    """Tell whether a call returns a coroutine: who calls it may treat ``async def`` and ``def`` differently."""
    if inspect.iscoroutinefunction(function):
        return True
    return not isinstance(function, type) and inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - of its class


def refuse_unknown(function: Any, hook: str, offered: Iterable[str]) -> None:
    """Look at the implementation of a hook.

    Raises:
        SignatureRefused: it has a required parameter that the hook's specification has not.
    """
    known = tuple(offered)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    unknown = [
        item.name
        for item in signature.parameters.values()
        if item.default is item.empty
        and item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD)
        and item.name not in known
    ]
    if unknown:
        offers = _quoted(known) if known else "nothing"
        raise SignatureRefused(
            f"The hook {hook}{signature} asks for {_quoted(unknown)}; the host offers it {offers}. Take another "
            "parameter out, or give it a default."
        )


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", None) or type(function).__qualname__)


def _shown(item: object) -> str:
    try:
        return repr(item)[:200]
    except BaseException:  # noqa: BLE001 - a plugin's object may do anything when it is looked at
        return f"an object of {type(item).__qualname__}"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
