"""A page of the reference, and how a part of the code is shown on one."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

COMMAND: Final = "python docs/generate_reference.py"

GENERATED: Final = f"<!-- Generated from the code: do not edit, run `{COMMAND}`. -->"


@dataclass(frozen=True, slots=True)
class Page:
    """A page: its path below ``docs``, its title, and its lines without both."""

    path: str
    title: str
    lines: tuple[str, ...]

    @classmethod
    def of(cls, path: str, title: str, lines: Iterable[str]) -> Page:
        """Take the lines from a generator."""
        return cls(path, title, tuple(lines))

    @property
    def text(self) -> str:
        """The whole file."""
        return "\n".join((f"# {self.title}", "", GENERATED, "", *self.lines)).rstrip() + "\n"


def functions(module: Any) -> list[Any]:
    """Return the functions that a module defines, in their order."""
    return [item for item in vars(module).values() if inspect.isfunction(item) and item.__module__ == module.__name__]


def function(shown: Any, above: str = "", within: str = "") -> Iterator[str]:
    """Show a function under a heading of its own: its signature and its docstring."""
    word = "async def" if inspect.iscoroutinefunction(shown) or inspect.isasyncgenfunction(shown) else "def"
    yield from (f"### `{within}{shown.__name__}`", "")
    yield from ("```python", f"{above}{word} {shown.__name__}{signature(shown)}", "```", "")
    yield from (*prose(shown.__doc__), "")


def methods(cls: type) -> Iterator[str]:
    """Show the public methods and properties that a class defines itself."""
    for name, item in vars(cls).items():
        if isinstance(item, property) and item.fget is not None and not name.startswith("_"):
            yield from function(item.fget, "@property\n")
        elif isinstance(item, classmethod | staticmethod) and not name.startswith("_"):
            yield from function(item.__func__, f"@{type(item).__name__}\n")
        elif inspect.isfunction(item) and not name.startswith("_"):
            yield from function(item)


def signature(shown: Any) -> str:
    """Return a signature as it is written, with the marks for positional and keyword parameters."""
    found = inspect.signature(shown)
    parts, keyword_only = [], False
    for item in found.parameters.values():
        if item.kind is item.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            parts.append("*")
        stars = "*" if item.kind is item.VAR_POSITIONAL else "**" if item.kind is item.VAR_KEYWORD else ""
        keyword_only = keyword_only or stars == "*"
        annotation = f": {item.annotation}" if item.annotation is not item.empty else ""
        equals = " = " if annotation else "="
        default = f"{equals}{item.default!r}" if item.default is not item.empty else ""
        parts.append(f"{stars}{item.name}{annotation}{default}")
        if item.kind is item.POSITIONAL_ONLY:
            parts.append("/")
    slashes = [index for index, part in enumerate(parts) if part == "/"]
    parts = [part for index, part in enumerate(parts) if part != "/" or index == slashes[-1]]
    returned = f" -> {found.return_annotation}" if found.return_annotation is not found.empty else ""
    return f"({', '.join(parts)}){returned}"


def fields(cls: type) -> Iterator[str]:
    """Show a class under a heading of its own: its docstring and what is in it, up to its first method."""
    written = re.split(r"\n    (?:@|(?:async )?def )", inspect.getsource(cls))[0].rstrip()
    yield from (f"### `{cls.__name__}`", "", "```python", written, "```", "")


def values(module: Any) -> Iterator[str]:
    """Show the value types and aliases of a module, as they are written there."""
    yield from ("## Values", "", *_code(module, ast.Assign | ast.ClassDef)) if list(_written(module)) else ()


def aliases(module: Any) -> Iterator[str]:
    """Show the type aliases of a module alone."""
    yield from _code(module, ast.Assign)


def _code(module: Any, kind: Any) -> Iterator[str]:
    shown = [text for node, text in _written(module) if isinstance(node, kind)]
    yield from ("```python", "\n\n\n".join(shown), "```", "")


def _written(module: Any) -> Iterator[tuple[ast.stmt, str]]:
    """Yield the aliases, each with the docstring below it, and the classes of a module."""
    source = inspect.getsource(module)
    lines, body = source.splitlines(), ast.parse(source).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if not node.targets[0].id.startswith("_"):
                told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                yield node, "\n".join(lines[node.lineno - 1 : after.end_lineno if told and after else node.end_lineno])
        elif isinstance(node, ast.ClassDef) and not node.name.endswith("Manager"):
            first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
            yield node, "\n".join(lines[first - 1 : node.end_lineno])


def prose(docstring: str | None) -> Iterator[str]:
    """Turn a docstring into Markdown."""
    raises = False
    for line in inspect.cleandoc(docstring or "").splitlines():
        if line.rstrip() in ("Raises:", "Args:"):
            raises = True
            yield line
            yield ""
        elif raises and re.match(r"    \S", line):
            name, _, text = line.strip().partition(":")
            yield f"* `{name}`: {code(text.strip())}"
        else:
            yield code(line.removeprefix("    ") if raises else line)


def table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Show rows below heads; a column in which nothing is written is left out."""
    found = list(rows)
    used = [index for index in range(len(heads)) if any(row[index] for row in found)]
    yield f"| {' | '.join(heads[index] for index in used)} |"
    yield "|---" * len(used) + "|"
    for row in found:
        yield f"| {' | '.join(code(row[index]).replace('|', chr(92) + '|') for index in used)} |"
    yield ""


def code(text: str) -> str:
    """Turn the marks of docstrings for code into those of Markdown."""
    return text.replace("``", "`")
