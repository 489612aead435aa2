"""The text of a blocking method: what it returns, how it is decorated, and how it is laid out."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from base04_hookspecs._generate_blocking.imports import LINE_LENGTH
from base04_hookspecs.errors import ConfigurationError

Function = ast.FunctionDef | ast.AsyncFunctionDef

_BLOCKING_FORMS: Final = {"AsyncIterator": "Iterator", "AsyncGenerator": "Iterator"}
_AWAITED_ARGUMENT: Final = {"Awaitable": 0, "Coroutine": 2}
_CONTEXT_ADVICE: Final = (
    "what it holds belongs to one task. Give the contract a method that acquires and one that releases"
)
_WITHOUT_BLOCKING_FORM: Final = {
    "AbstractAsyncContextManager": _CONTEXT_ADVICE,
    "AsyncContextManager": _CONTEXT_ADVICE,
    "AsyncIterable": "it may be iterated more than once. Return an AsyncIterator",
}


def changed_return(node: Function, returns: ast.expr) -> ast.expr | None:
    """Return what the blocking form of a function returns, None where that is what the function returns.

    Raises:
        ConfigurationError: there is no blocking form of it.
    """
    expression = _parsed(returns)
    before = ast.dump(expression)
    after: ast.expr = _Return(awaits=isinstance(node, ast.AsyncFunctionDef)).visit(expression)
    return None if ast.dump(after) == before else after


def _parsed(annotation: ast.expr) -> ast.expr:
    """Return a copy of an annotation, which may be written as a string."""
    text = ast.unparse(annotation)
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        text = annotation.value
    return ast.parse(text, mode="eval").body


class _Return(ast.NodeTransformer):
    def __init__(self, *, awaits: bool) -> None:
        self._awaits = awaits

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        name = last_name(node.value)
        arguments = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if name in _WITHOUT_BLOCKING_FORM:
            raise ConfigurationError(
                f"A method that returns {ast.unparse(node)} has no blocking form: {_WITHOUT_BLOCKING_FORM[name]}."
            )
        if name in _BLOCKING_FORMS:
            return ast.Subscript(ast.Name(_BLOCKING_FORMS[name], ast.Load()), arguments[0], ast.Load())
        if name in _AWAITED_ARGUMENT and not self._awaits:
            return arguments[_AWAITED_ARGUMENT[name]]
        return node


def last_name(node: ast.expr) -> str:
    """Return the last part of a dotted name, empty for any other expression."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def decorators(node: Function, where: str) -> Iterator[str]:
    """Yield the decorators that a blocking method keeps.

    Raises:
        ConfigurationError: one of them has no known meaning there.
    """
    for decorator in node.decorator_list:
        name = last_name(decorator.func if isinstance(decorator, ast.Call) else decorator)
        if name in ("property", "classmethod", "staticmethod"):
            yield name
        elif name not in ("abstractmethod", "Since"):
            raise ConfigurationError(
                f"The decorator @{ast.unparse(decorator)} of {where} has no blocking form: the methods of a contract "
                "may have @abstractmethod, @property, @classmethod and @staticmethod."
            )


def layout(name: str, parameters: list[str], returns: str) -> str:
    """Write the head of a method, up to its colon, as ruff formats it."""
    line = f"    def {name}({', '.join(parameters)}){returns}:"
    if len(line) <= LINE_LENGTH:
        return line
    inner = " " * 8 + ", ".join(parameters)
    if len(inner) > LINE_LENGTH:
        inner = "\n".join(f"        {parameter}," for parameter in parameters)
    return f"    def {name}(\n{inner}\n    ){returns}:"


def summary(docstring: str, indent: str) -> str:
    """Write the first line of a docstring as a docstring of its own."""
    first = docstring.splitlines()[0].replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    line = f'{indent}"""{first}"""'
    if len(line) <= LINE_LENGTH:
        return line
    cut = line.rindex(" ", 0, LINE_LENGTH)
    return f'{line[:cut]}\n{indent}{line[cut + 1 : -3]}\n{indent}"""'
