"""The source of a module that holds a contract."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from base04_hookspecs._generate_blocking.imports import Origin, origins
from base04_hookspecs.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class ModuleSource:
    """The text and tree of a module, where its names come from, and what they stand for at run time."""

    name: str
    text: str
    tree: ast.Module
    origins: Mapping[str, Origin]
    namespace: Mapping[str, Any]

    def class_named(self, name: str) -> ast.ClassDef:
        """Return a class of the module.

        Raises:
            ConfigurationError: it is not at the top level.
        """
        for node in self.tree.body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                return node
        raise ConfigurationError(f"The class {name!r} is not at the top level of {self.name!r}: define it there.")

    def segment(self, node: ast.expr) -> str:
        """Return an expression as it was written, on one line."""
        text = ast.get_source_segment(self.text, node)
        return text if text is not None and "\n" not in text else ast.unparse(node)


@cache
def module_source(name: str) -> ModuleSource:
    """Return the source of an importable module.

    Raises:
        ConfigurationError: it has none, because it is compiled or was made at run time.
    """
    module = importlib.import_module(name)
    try:
        text = inspect.getsource(module)
    except (OSError, TypeError) as error:
        raise ConfigurationError(
            f"The module {name!r} has no source to read its contracts from: write the blocking contract by hand."
        ) from error
    tree = ast.parse(text)
    return ModuleSource(name, text, tree, origins(tree, name, module.__package__ or name), vars(module))
