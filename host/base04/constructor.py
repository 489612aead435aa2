"""What a manager's constructor, or a handler's signature, asks for."""

from __future__ import annotations

import importlib
import inspect
import typing
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from base04.errors import ResolutionError
from base04.plugins.isolation import described, plugin_code, pressed
from base04.plugins.plugin import Candidate
from base04.selection import InstanceKey
from base04_hookspecs.annotations import unwrap
from base04_hookspecs.app import AppManager
from base04_hookspecs.manager import Manager
from base04_hookspecs.markers import Use


@dataclass(frozen=True, slots=True)
class Dependency:
    """A parameter that receives another manager."""

    parameter: str
    key: InstanceKey
    contract: type[Manager]
    use: Use
    optional: bool


@dataclass(frozen=True, slots=True)
class Constructor:
    """A manager class and what its constructor needs; each parameter's name."""

    cls: type[Manager]
    dependencies: tuple[Dependency, ...]
    settings_parameter: str | None
    settings_model: type[BaseModel] | None
    app_parameter: str | None


def load_class(candidate: Candidate) -> type[Manager]:
    """Import the implementation of a chosen provider.

    Raises:
        ResolutionError: it cannot be imported, is not a Manager of the role, or is abstract; a missing extra is named
            with the command that installs it.
    """
    implementation = candidate.provider.implementation
    cls = _imported(candidate, implementation) if isinstance(implementation, str) else implementation
    if not (isinstance(cls, type) and issubclass(cls, Manager)):
        raise ResolutionError(
            f"The implementation {candidate.provider.target!r} of {candidate} is not a Manager class."
        )
    if getattr(cls, "role", None) != candidate.role:
        raise ResolutionError(
            f"{cls.__qualname__}, the implementation of {candidate}, has the role {getattr(cls, 'role', None)!r}, "
            f"and is offered for {candidate.role!r}."
        )
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(cls.__abstractmethods__))
        raise ResolutionError(f"{cls.__qualname__}, the implementation of {candidate}, lacks the methods {missing}.")
    return cls


def _imported(candidate: Candidate, target: str) -> Any:
    module_name, _, attribute = target.partition(":")
    try:
        with plugin_code():
            found: Any = importlib.import_module(module_name)
        for name in attribute.split("."):
            found = getattr(found, name)
    except ImportError as error:
        extra = candidate.provider.extra
        remedy = f" Install what it needs: pip install '{candidate.plugin.distribution}[{extra}]'." if extra else ""
        raise ResolutionError(f"{candidate} cannot be used: {error}.{remedy}") from error
    except AttributeError as error:
        raise ResolutionError(f"{candidate} cannot be used: there is no {target!r} ({error}).") from error
    except BaseException as error:
        if pressed(error):
            raise
        raise ResolutionError(
            f"{candidate} cannot be used: importing {module_name!r} raised {described(error)}."
        ) from error
    return found


def inspect_constructor(cls: type[Manager], candidate: Candidate) -> Constructor:
    """Read what a constructor asks for.

    Raises:
        ResolutionError: a parameter is neither a contract, nor a settings model, nor the AppManager, nor optional.
    """
    if cls.__init__ is object.__init__:
        return Constructor(cls, (), None, None, None)
    hints = _hints(cls, candidate)
    dependencies: list[Dependency] = []
    models: list[tuple[str, type[BaseModel]]] = []
    app_parameter = None
    for parameter in list(inspect.signature(cls.__init__).parameters.values())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        annotation = hints.get(parameter.name)
        dependency = read_dependency(parameter.name, annotation)
        kind, _, _ = unwrap(annotation)
        if dependency is not None:
            dependencies.append(dependency)
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            models.append((parameter.name, kind))
        elif isinstance(kind, type) and issubclass(kind, AppManager):
            app_parameter = parameter.name
        elif parameter.default is parameter.empty:
            raise ResolutionError(
                f"{cls.__qualname__} of {candidate} has the parameter {parameter.name!r} with the annotation "
                f"{_written(annotation)}, which the host cannot give: annotate it with a contract from "
                "base04_hookspecs, one pydantic model for settings, or AppManager, or give it a default."
            )
    if len(models) > 1:
        names = ", ".join(repr(name) for name, _ in models)
        raise ResolutionError(
            f"{cls.__qualname__} of {candidate} has several settings models ({names}); it can have one."
        )
    name, model = models[0] if models else (None, None)
    return Constructor(cls, tuple(dependencies), name, model, app_parameter)


def read_dependency(parameter: str, annotation: Any) -> Dependency | None:
    """Read a parameter annotated with a contract, ``| None`` and ``Annotated[..., Use(...)]`` included."""
    contract, use, optional = unwrap(annotation)
    if not (isinstance(contract, type) and issubclass(contract, Manager)) or not hasattr(contract, "role"):
        return None
    return Dependency(parameter, InstanceKey(contract.role, use.instance), contract, use, optional)


def _hints(cls: type[Manager], candidate: Candidate) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls.__init__, include_extras=True)
    except NameError as error:
        raise ResolutionError(
            f"The constructor of {cls.__qualname__} of {candidate} is annotated with {error.name!r}, which its module "
            f"{cls.__module__!r} does not have when it runs: move that import out of `if TYPE_CHECKING:`."
        ) from error
    except Exception as error:
        raise ResolutionError(
            f"The annotations of the constructor of {cls.__qualname__} of {candidate} cannot be read: {error}."
        ) from error


def _written(annotation: Any) -> str:
    return "nothing" if annotation is None else getattr(annotation, "__qualname__", None) or repr(annotation)
