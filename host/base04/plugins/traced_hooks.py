"""What hooks have returned, with a stop watch around every call; made only where hook calls are traced."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from base04.plugins.contributions import Contributions, Owner
from base04.plugins.hook_timings import CALL, HookTimings
from base04.plugins.isolation import pressed
from base04.plugins.signatures import is_async

if TYPE_CHECKING:
    from starlette.middleware import Middleware
    from starlette.types import ASGIApp, Receive, Scope, Send

_CALLABLES: Final = ("authenticate", "before_action", "after_action", "audit_event", "authorize_room")
_NAMED: Final = ("routes", "startup", "shutdown", "metrics")

Note = Callable[[float], None]
"""Takes how long a call took, in seconds."""

_inside: Final[ContextVar[list[float] | None]] = ContextVar("base04_inside_middleware", default=None)


def traced(contributions: Contributions, timings: HookTimings) -> Contributions:
    """Return contributions whose calls are timed; they do what they did, and are the same plugins'."""
    owners: dict[tuple[str, int], Owner] = dict(contributions.owners)

    def watched(hook: str, item: Any) -> Any:
        owner = contributions.owners.get((hook, id(item)))
        if owner is None:
            return item
        try:
            made = _timed(hook, item, functools.partial(timings.add, owner.plugin.name, hook, CALL))
        except BaseException as error:
            if pressed(error):
                raise
            return item  # it is not what it should be: whoever uses it says so
        owners[hook, id(made)] = owner
        return made

    def all_of(hook: str) -> tuple[Any, ...]:
        return tuple(watched(hook, item) for item in getattr(contributions, hook))

    def named(hook: str) -> tuple[Any, ...]:
        return tuple((name, watched(hook, item)) for name, item in getattr(contributions, hook))

    changed: dict[str, Any] = {hook: all_of(hook) for hook in (*_CALLABLES, "middleware")}
    changed |= {hook: named(hook) for hook in _NAMED}
    return dataclasses.replace(contributions, owners=owners, **changed)


def _timed(hook: str, item: Any, note: Note) -> Any:
    if hook == "routes":
        return _route(item, note)
    if hook == "middleware":
        return _middleware(item, note)
    return _Collector(item, note) if hook == "metrics" else _function(item, note)


def _function(function: Any, note: Note) -> Any:
    """Return a function of the same kind: who calls it may treat ``async def`` and ``def`` differently."""

    @functools.wraps(function)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        began = perf_counter()
        try:
            return await function(*args, **kwargs)
        finally:
            note(perf_counter() - began)

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        began = perf_counter()
        try:
            result = function(*args, **kwargs)
        except BaseException:
            note(perf_counter() - began)
            raise
        if inspect.isawaitable(result):
            return _rest(result, note, began)
        note(perf_counter() - began)
        return result

    return awaited if is_async(function) else called


async def _rest(result: Any, note: Note, began: float) -> Any:
    try:
        return await result
    finally:
        note(perf_counter() - began)


def _route(route: Any, note: Note) -> Any:
    """Return a copy of a route whose endpoint is timed; one of a kind without an application stays as it is."""
    app = getattr(route, "app", None)
    if not callable(app):
        return route
    made = copy.copy(route)
    made.app = _application(app, note)
    return made


def _application(app: ASGIApp, note: Note) -> ASGIApp:
    async def timed(scope: Scope, receive: Receive, send: Send) -> None:
        began = perf_counter()
        try:
            await app(scope, receive, send)
        finally:
            note(perf_counter() - began)

    return timed


def _middleware(item: Middleware, note: Note) -> Middleware:
    """Return middleware whose own time is noted: what it is around does not count."""
    from starlette.middleware import Middleware

    def make(app: ASGIApp) -> Any:
        async def inner(scope: Scope, receive: Receive, send: Send) -> None:
            spent = _inside.get()
            began = perf_counter()
            try:
                await app(scope, receive, send)
            finally:
                if spent is not None:
                    spent[0] += perf_counter() - began

        made: Any = item.cls(inner, *item.args, **item.kwargs)

        async def outer(scope: Scope, receive: Receive, send: Send) -> None:
            spent = [0.0]
            token = _inside.set(spent)
            began = perf_counter()
            try:
                await made(scope, receive, send)
            finally:
                note(perf_counter() - began - spent[0])
                _inside.reset(token)

        if not callable(made):
            return made
        setattr(outer, "__wrapped__", made)  # noqa: B010 - functions have no such attribute for mypy
        return outer

    return Middleware(functools.update_wrapper(make, item.cls, assigned=("__name__", "__qualname__"), updated=()))


class _Collector:
    """A collector whose collecting is timed."""

    def __init__(self, collector: Any, note: Note) -> None:
        self._collector, self._note = collector, note

    def collect(self) -> Iterable[Any]:
        """Return the metrics of the collector."""
        began = perf_counter()
        try:
            return list(self._collector.collect())
        finally:
            self._note(perf_counter() - began)
