"""The imports of a generated module: found where its text comes from, written as ruff writes them."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from base04_hookspecs.errors import ConfigurationError

LINE_LENGTH: Final = 120


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a name comes from: ``from module import name``, or ``import module`` where ``name`` is None."""

    module: str
    name: str | None
    typing_only: bool = False


def origins(tree: ast.Module, module: str, package: str) -> dict[str, Origin]:
    """Return all names that a module imports or defines at its top level."""
    return dict(_origins(tree.body, module, package, typing_only=False))


def _origins(body: Iterable[ast.stmt], module: str, package: str, typing_only: bool) -> Iterator[tuple[str, Origin]]:
    for node in body:
        match node:
            case ast.Import():
                for alias in node.names:
                    yield alias.asname or alias.name.partition(".")[0], Origin(alias.name, None, typing_only)
            case ast.ImportFrom():
                source = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                for alias in node.names:
                    yield alias.asname or alias.name, Origin(source, alias.name, typing_only)
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name, Origin(module, node.name, typing_only)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name, Origin(module, name, typing_only)
            case ast.If():
                guarded = typing_only or ast.unparse(node.test).endswith("TYPE_CHECKING")
                yield from _origins(node.body, module, package, guarded)
                yield from _origins(node.orelse, module, package, typing_only)
            case ast.Try():
                yield from _origins([*node.body, *node.orelse, *node.finalbody], module, package, typing_only)


class Imports:
    """What a generated module has to import; refuses one name for two things."""

    def __init__(self, first_party: str) -> None:
        self._first_party = first_party
        self._origins: dict[str, Origin] = {}

    def add(self, local: str, origin: Origin) -> None:
        """Import ``origin`` as ``local``; at run time too, where one of its uses needs that.

        Raises:
            ConfigurationError: the name stands for something else already.
        """
        known = self._origins.setdefault(local, origin)
        if (known.module, known.name) != (origin.module, origin.name):
            raise ConfigurationError(
                f"The name {local!r} comes from {known.module!r} and from {origin.module!r}: "
                "a generated module needs one name for each, so rename one of them."
            )
        if known.typing_only and not origin.typing_only:
            self._origins[local] = origin

    def render(self) -> str:
        """Return the import statements, after the one of ``__future__``, with no blank line after them."""
        typing_only = [(local, origin) for local, origin in self._origins.items() if origin.typing_only]
        if typing_only:
            self.add("TYPE_CHECKING", Origin("typing", "TYPE_CHECKING"))
        text = self._sections([(local, origin) for local, origin in self._origins.items() if not origin.typing_only])
        if not typing_only:
            return text
        guarded = self._sections(typing_only).replace("\n", "\n    ").replace("\n    \n", "\n\n")
        return f"{text}\n\nif TYPE_CHECKING:\n    {guarded}"

    def _sections(self, names: list[tuple[str, Origin]]) -> str:
        sections: dict[int, list[tuple[str, Origin]]] = {}
        for local, origin in names:
            sections.setdefault(self._section(origin.module), []).append((local, origin))
        return "\n\n".join("\n".join(_statements(sections[section])) for section in sorted(sections))

    def _section(self, module: str) -> int:
        root = module.partition(".")[0]
        return 0 if root in sys.stdlib_module_names else 2 if root == self._first_party else 1


def _statements(names: list[tuple[str, Origin]]) -> Iterator[str]:
    plain = {(origin.module, local) for local, origin in names if origin.name is None}
    for module, local in sorted(plain):
        yield f"import {module}" if local == module.partition(".")[0] else f"import {module} as {local}"
    for module in sorted({origin.module for _, origin in names if origin.name is not None}):
        own = [(local, origin.name) for local, origin in names if origin.module == module and origin.name is not None]
        members = sorted((name for local, name in own if local == name), key=_member_order)
        if members:
            yield _from_import(module, members)
        for local, name in sorted(own):
            if local != name:
                yield f"from {module} import {name} as {local}"


def _member_order(name: str) -> tuple[int, str]:
    """Order constants before classes before the rest, as ruff's isort rules do."""
    rank = 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2
    return rank, name


def _from_import(module: str, members: list[str]) -> str:
    line = f"from {module} import {', '.join(members)}"
    if len(line) <= LINE_LENGTH:
        return line
    return f"from {module} import (\n" + "".join(f"    {member},\n" for member in members) + ")"
