"""One span for each call of a manager, made within a request or an action that is recorded.

An instance gets a class derived from its own, in which the methods that are awaited are traced: it stays the same
object, of the same contract, with the same name, for whoever holds it, copies it, or makes a blocking proxy of it.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import structlog
from opentelemetry import trace
from opentelemetry.trace import Tracer

from base04.resolution import Node
from base04.telemetry.spans import Attributes, PresentSpan
from base04_hookspecs.manager import Manager

_OF_THE_HOST: Final = frozenset({"start", "stop", "take_over", "health_check", "drain", "handle"})
"""What only the host calls: outside of requests, or for as long as a connection lasts."""

_log = structlog.get_logger()
T = TypeVar("T", bound=Manager)


class ManagerSpans:
    """Traces managers; each of their classes is derived from once for each instance of a role."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._traced: dict[tuple[str, type[Manager]], type[Manager]] = {}
        self._derived: set[type[Manager]] = set()

    def watch(self, node: Node, manager: Manager) -> None:
        """Trace the calls of a manager from now on."""
        key, candidate = node.key, node.choice.candidate
        said = {
            "base04.manager.role": key.role,
            "base04.manager.instance": key.instance,
            "base04.manager.provider": candidate.provider.name,
            "base04.manager.plugin": candidate.plugin.name,
        }
        self._watch(str(key), said, manager)

    def _watch(self, key: str, said: Attributes, manager: T) -> T:
        kind = type(manager)
        if kind in self._derived:  # a view that was made by a copy, or by the class of its maker
            return manager
        traced = self._traced.get((key, kind))
        try:
            if traced is None:
                traced = self._traced[key, kind] = self._derive(key, said, kind)
            manager.__class__ = traced  # type: ignore[assignment]  # it is derived from it
        except TypeError as error:  # its class cannot be derived from, or has another layout
            _log.warning("a manager is not traced", manager=key, error=str(error))
            self._traced[key, kind] = kind
        return manager

    def _derive(self, key: str, said: Attributes, kind: type[Manager]) -> type[Manager]:
        members: dict[str, Any] = {
            "__slots__": (),
            "__module__": kind.__module__,
            "__qualname__": kind.__qualname__,
            "__doc__": kind.__doc__,
        }
        for name, method in _awaited(kind):
            members[name] = self._method(f"{key}.{name}", f"{key}.", said, method)
        access = inspect.getattr_static(kind, "with_access", None)
        if inspect.isfunction(access):
            members["with_access"] = self._view(key, said, access)
        derived: type[Manager] = types.new_class(kind.__name__, (kind,), exec_body=lambda body: body.update(members))
        self._derived.add(derived)
        return derived

    def _method(self, name: str, own: str, said: Attributes, method: Callable[..., Any]) -> Callable[..., Any]:
        tracer = self._tracer

        @functools.wraps(method)
        async def traced(self: Manager, /, *args: Any, **kwargs: Any) -> Any:
            around = trace.get_current_span()
            # What a manager calls of itself belongs to the call from outside that is being traced.
            if not around.is_recording() or getattr(around, "name", "").startswith(own):
                return await method(self, *args, **kwargs)
            with PresentSpan(tracer, name, said):
                return await method(self, *args, **kwargs)

        return traced

    def _view(self, key: str, said: Attributes, access: Callable[..., Any]) -> Callable[..., Any]:
        watch = self._watch

        @functools.wraps(access)
        def traced(self: Manager, /, *args: Any, **kwargs: Any) -> Any:
            view = access(self, *args, **kwargs)
            return watch(key, said, view) if isinstance(view, Manager) and view is not self else view

        return traced


def _awaited(kind: type[Manager]) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Return the public methods that are awaited: ``async def`` there, or in the contract that they fulfil."""
    for name in dir(kind):
        method = inspect.getattr_static(kind, name)
        if name.startswith("_") or name in _OF_THE_HOST or not inspect.isfunction(method):
            continue
        if any(inspect.iscoroutinefunction(vars(base).get(name)) for base in kind.__mro__):
            yield name, method
