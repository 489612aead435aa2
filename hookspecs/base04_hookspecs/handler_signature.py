"""What the signature of an action handler asks for.

Discovery checks it against what the action declares, the host's pipeline calls the handler by it.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from base04_hookspecs.action_discovery import ActionContext
from base04_hookspecs.annotations import unwrap
from base04_hookspecs.errors import ConfigurationError
from base04_hookspecs.manager import Manager
from base04_hookspecs.markers import Use

_BLOCKING: Final = "base04_hookspecs.blocking"
_POSITIONAL_OR_KEYWORD: Final = inspect.Parameter.POSITIONAL_OR_KEYWORD
_VALUES: Final = ("str", "int", "float", "bool", str, int, float, bool)
"""Annotations that need not be resolved: they are those of values."""

_KEYWORD_ONLY: Final = inspect.Parameter.KEYWORD_ONLY


@dataclass(frozen=True, slots=True)
class InjectedManager:
    """A parameter that gets a manager. ``contract`` is the asynchronous one, also for a ``def`` handler."""

    parameter: str
    contract: type[Manager]
    use: Use = field(default_factory=Use)
    optional: bool = False

    @property
    def role(self) -> str:
        """The role of the manager."""
        return self.contract.role


@dataclass(frozen=True, slots=True)
class HandlerSignature:
    """How a handler is called: every parameter by keyword.

    ``values`` maps the parameters that take an action's arguments to whether they must be given; ``open`` says that
    it takes any others too (``**kwargs``); ``contexts`` are the parameters that get the ``ActionContext``.
    """

    asynchronous: bool
    managers: tuple[InjectedManager, ...]
    contexts: tuple[str, ...]
    values: Mapping[str, bool]
    open: bool

    @property
    def injected(self) -> frozenset[str]:
        """The names of all parameters that the host gives a value."""
        return frozenset(manager.parameter for manager in self.managers).union(self.contexts)


def handler_signature(handler: Callable[..., Any]) -> HandlerSignature:
    """Read what a handler asks for.

    Raises:
        ConfigurationError: it cannot be a handler; the message says everything that is wrong with it.
    """
    _refuse_kind(handler)
    asynchronous = _is_asynchronous(handler)
    parameters = _parameters(handler)
    hints = _hints(handler, parameters)
    managers: list[InjectedManager] = []
    contexts: list[str] = []
    values: dict[str, bool] = {}
    problems: list[str] = []
    for name, parameter in parameters.items():
        if parameter.kind not in (_POSITIONAL_OR_KEYWORD, _KEYWORD_ONLY):
            if parameter.kind is inspect.Parameter.POSITIONAL_ONLY and parameter.default is inspect.Parameter.empty:
                problems.append(f"The parameter {name!r} is positional-only, but arguments are given by name.")
            continue
        base, use, optional = unwrap(hints.get(name))
        if base is ActionContext:
            contexts.append(name)
            continue
        contract = _contract(base)
        if contract is None:
            values[name] = parameter.default is inspect.Parameter.empty
            continue
        problem = _contract_problem(name, base, contract, asynchronous)
        if problem:
            problems.append(problem)
        managers.append(InjectedManager(name, contract, use, optional))
    if problems:
        raise ConfigurationError(f"The handler {_name(handler)} cannot be called. " + " ".join(problems))
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    return HandlerSignature(asynchronous, tuple(managers), tuple(contexts), values, takes_any)


def _refuse_kind(handler: Any) -> None:
    if not callable(handler):
        raise ConfigurationError(f"The handler {_name(handler)} is no function, but {type(handler).__name__!r}.")
    if isinstance(handler, type):
        raise ConfigurationError(f"The handler {_name(handler)} is a class: name a function.")
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise ConfigurationError(f"The handler {_name(handler)} is a generator: return the result instead.")


def _is_asynchronous(handler: Callable[..., Any]) -> bool:
    if inspect.iscoroutinefunction(handler):
        return True
    return inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004 - an object with `async def`


def _parameters(handler: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(handler).parameters
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"The handler {_name(handler)} has no signature that can be read: name a function written in Python."
        ) from error


def _hints(handler: Any, parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """Resolve the annotations of the parameters; the one of the result concerns nobody."""
    names = getattr(_function(handler), "__globals__", {})
    hints: dict[str, Any] = {}
    for name, parameter in parameters.items():
        annotation = parameter.annotation
        if annotation is inspect.Parameter.empty or (annotation in _VALUES and annotation not in names):
            continue
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            hints.update(typing.get_type_hints(holder, globalns=names, include_extras=True))
        except NameError as error:
            raise ConfigurationError(
                f"The handler {_name(handler)} cannot be called: the annotation {annotation!r} of its parameter "
                f"{name!r} cannot be resolved. Import {error.name!r} outside of 'if TYPE_CHECKING:'."
            ) from error
        except Exception as error:
            raise ConfigurationError(
                f"The handler {_name(handler)} cannot be called: the annotation {annotation!r} of its parameter "
                f"{name!r} cannot be resolved: {error}."
            ) from error
    return hints


def _function(handler: Any) -> Any:
    """Return the function in which the annotations of a handler were written."""
    while True:
        if isinstance(handler, functools.partial):
            handler = handler.func
        elif hasattr(handler, "__wrapped__"):
            handler = handler.__wrapped__
        elif isinstance(handler, types.MethodType):
            handler = handler.__func__
        elif not hasattr(handler, "__globals__") and isinstance(getattr(handler, "__call__", None), types.MethodType):  # noqa: B004 - an object with `def __call__`
            handler = handler.__call__
        else:
            return handler


def _contract(hint: Any) -> type[Manager] | None:
    if not isinstance(hint, type):
        return None
    twins = getattr(sys.modules.get(hint.__module__), "CONTRACTS", None)  # of base04_hookspecs.blocking, or a plugin's
    if isinstance(twins, Mapping) and hint in twins:
        found: type[Manager] = twins[hint]
        return found
    return hint if issubclass(hint, Manager) else None


def _contract_problem(name: str, hint: Any, contract: type[Manager], asynchronous: bool) -> str | None:
    if not isinstance(getattr(contract, "role", None), str):
        return f"The parameter {name!r} is annotated with {contract.__name__}, which has no role: name a contract."
    blocking = hint is not contract
    if blocking and asynchronous:
        return (
            f"The parameter {name!r} of an 'async def' has the type {hint.__module__}.{hint.__name__}: "
            f"annotate it with {contract.__module__}.{contract.__name__}."
        )
    if not blocking and not asynchronous:
        return (
            f"The parameter {name!r} of a 'def' has the type {contract.__module__}.{contract.__name__}, whose methods "
            f"are to be awaited: take the type from {_BLOCKING}, or write 'async def'."
        )
    return None


def _name(handler: Any) -> str:
    qualified = getattr(handler, "__qualname__", None)
    return repr(f"{handler.__module__}:{qualified}") if qualified else repr(type(handler).__qualname__)
