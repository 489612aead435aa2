"""Finding the handler that an action names, and checking that it takes what the action declares."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Collection
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

from base04_builtin.action_discovery.faults import nearest
from base04_builtin.action_discovery.sources import PackFile, stamp_of
from base04_hookspecs.errors import Base04Error, ConfigurationError
from base04_hookspecs.handler_signature import HandlerSignature, handler_signature

_TARGET: Final = re.compile(r"\.?[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")
_BESIDE: Final = re.compile(r"\.[A-Za-z_]\w*\Z")

Handler = Callable[..., Any]


class HandlerProblem(Base04Error):
    """A handler that cannot be used; the message says why."""


class HandlerModules:
    """The modules of handlers, each imported once in a discovery, however many actions name it."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], ModuleType | HandlerProblem] = {}

    def find(self, target: str, file: PackFile) -> tuple[Handler, str]:
        """Import ``package.module:function`` and return the function and the name of its module.

        ``.module:function`` is a module of the package that holds the action file, or, for a file in a folder, the
        module ``module.py`` beside it, which is imported anew when it has changed.

        Raises:
            HandlerProblem: it is not written so, cannot be imported, or does not exist.
        """
        if not _TARGET.match(target):
            raise HandlerProblem(f"The handler {target!r} cannot be read: write 'package.module:function'.")
        name, _, attribute = target.partition(":")
        module = self._module(name, file)
        found: Any = module
        for part in attribute.split("."):
            try:
                found = getattr(found, part)
            except AttributeError as error:
                functions = [known for known in dir(found) if not known.startswith("_")]
                raise HandlerProblem(
                    f"The handler {target!r} does not exist: {name!r} has no {part!r}{nearest(part, functions)}"
                ) from error
        return found, module.__name__

    def _module(self, name: str, file: PackFile) -> ModuleType:
        where = (file.package or str(file.path.parent)) if name.startswith(".") else ""
        found = self._found.get((name, where))
        if found is None:
            try:
                found = _imported(name, file)
            except HandlerProblem as problem:
                found = problem
            self._found[name, where] = found
        if isinstance(found, HandlerProblem):
            raise found
        return found


def _imported(name: str, file: PackFile) -> ModuleType:
    try:
        if not name.startswith("."):
            return importlib.import_module(name)
        if file.package is not None:
            return importlib.import_module(name, file.package)
        return _beside(name, file.path)
    except HandlerProblem:
        raise
    except ModuleNotFoundError as error:
        raise HandlerProblem(f"The module {name!r} of the handler cannot be imported: {error}.") from error
    except (Exception, SystemExit) as error:
        raise HandlerProblem(
            f"The module {name!r} of the handler fails when it is imported: {type(error).__name__}: {error}."
        ) from error


def _beside(name: str, path: Path) -> ModuleType:
    """Import the module beside an action file in a folder; its name is its own, whatever else is installed."""
    if not _BESIDE.match(name):
        raise HandlerProblem(f"The module {name!r} cannot be used: in a folder write '.module:function'.")
    source = path.resolve().with_name(name[1:] + ".py")
    unique = f"_base04_actions_{hashlib.sha256(str(source.parent).encode()).hexdigest()[:12]}_{name[1:]}"
    stamp, before = stamp_of(source), sys.modules.get(unique)
    if before is not None and before.__spec__ is not None and before.__spec__.loader_state == stamp:
        return before
    if stamp is None or not source.is_file():
        raise HandlerProblem(f"The module {name!r} of the handler does not exist: there is no file {str(source)!r}.")
    loader = None if before is None else _UncachedLoader(unique, str(source))
    spec = importlib.util.spec_from_file_location(unique, source, loader=loader)
    if spec is None or spec.loader is None:
        raise HandlerProblem(f"The module {name!r} of the handler cannot be imported from {str(source)!r}.")
    spec.loader_state = stamp
    module = sys.modules[unique] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if before is None:
            del sys.modules[unique]
        else:
            sys.modules[unique] = before
        raise
    return module


class _UncachedLoader(SourceFileLoader):
    """Compiles the source as it is: what Python caches is not told from a file saved twice within a second."""

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the module."""
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def check_handler(
    handler: Handler, *, parameters: Collection[str], given: Collection[str], others: bool
) -> tuple[dict[str, str], list[str]]:
    """Compare a handler's signature with what an action declares.

    ``given`` are the parameters that are always there: required ones and those with a default; ``others`` says that
    the action takes undeclared ones too. Returns what is wrong with single parameters, and with the handler.
    """
    try:
        signature = handler_signature(handler)
    except ConfigurationError as error:
        return {}, [str(error)]
    wrong = {
        name: problem
        for name in parameters
        if (problem := _parameter_problem(signature, name, always=name in given)) is not None
    }
    problems = [
        f"The handler has a parameter {name!r} without a default, which the action does not declare"
        f"{nearest(name, parameters)}"
        for name, required in signature.values.items()
        if required and name not in parameters
    ]
    if others and not signature.open:
        problems.append("The action takes additional parameters, but its handler has no '**' parameter for them.")
    return wrong, problems


def _parameter_problem(signature: HandlerSignature, name: str, *, always: bool) -> str | None:
    if name in signature.injected:
        return f"The handler gets {name!r} from the host, as its annotation says: an action cannot declare it."
    if name not in signature.values:
        return None if signature.open else f"The handler has no parameter {name!r}{nearest(name, signature.values)}"
    if signature.values[name] and not always:
        return (
            f"The handler needs {name!r}, which a caller may leave out: add it to 'required', or give it a default "
            "here or in the handler."
        )
    return None
