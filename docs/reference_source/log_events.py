"""Log events: what the host and the built-in plugins write, with which keys, read from where they write it."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import base04
import base04_builtin
from reference_source.page import Page, table

_LEVELS: Final = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}
_ORDER: Final = ("error", "warning", "info", "debug")
_NOT_OF_A_HOST: Final = {"testing", "templates", "client"}
_OF_HANDLERS: Final = "discreet.py"
"""Passes on what handlers of actions write, and writes nothing of its own."""


def page() -> Page:
    """Return the page."""
    return Page.of("reference/log-events.md", "Log events", _lines())


def _lines() -> Iterator[str]:
    yield "What the host and the built-in plugins write to the log: the text in `event`, and the keys beside it. Lines"
    yield "of a request have its `request_id`. Errors are for somebody to look at; after a warning the host goes on by"
    yield from ("itself, with less than it should have. Plugins and actions write events of their own.", "")
    for part, events in sorted(found().items(), key=lambda item: (item[0] != "host", item[0])):
        yield from (f"## {'The host' if part == 'host' else f'The role `{part}`'}", "")
        rows = sorted(events.items(), key=lambda item: (_ORDER.index(item[0][0]), item[0][1]))
        yield from table(
            ("level", "event", "keys"),
            [(level, event, ", ".join(f"`{key}`" for key in sorted(keys))) for (level, event), keys in rows],
        )


def found() -> dict[str, dict[tuple[str, str], set[str]]]:
    """Return all events by who writes them, with their keys."""
    parts: dict[str, dict[tuple[str, str], set[str]]] = defaultdict(lambda: defaultdict(set))
    for package, root in (("host", base04), ("", base04_builtin)):
        folder = Path(root.__path__[0])
        for path in sorted(folder.rglob("*.py")):
            inside = path.relative_to(folder).parts
            if _NOT_OF_A_HOST & {*inside} or path.name == _OF_HANDLERS:
                continue
            for level, event, keys in _events(path):
                parts[package or inside[0].removesuffix(".py")][level, event] |= keys
    return parts


def _events(path: Path) -> Iterator[tuple[str, str, set[str]]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
        aliases = _aliases(function)
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call) and node.args):
            level = _level(call.func) or aliases.get(ast.unparse(call.func))
            if level is None:
                continue
            keys = {word.arg for word in call.keywords if word.arg is not None} - {"exc_info"}
            texts = _texts(call.args[0], function, tree)
            assert texts, f"{path}:{call.lineno}: the text of this event cannot be found out"
            for text in texts:
                yield level, text, keys


def _level(method: ast.expr) -> str | None:
    """Return the level of a method of a logger, None for anything else."""
    if not isinstance(method, ast.Attribute) or method.attr not in _LEVELS:
        return None
    logger = ast.unparse(method.value).rpartition(".")[2]
    return _LEVELS[method.attr] if logger in ("log", "_log", "get_logger()") else None


def _aliases(function: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, str]:
    """Return the local names of methods of a logger, as in ``tell = log.debug if told else log.warning``."""
    found = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute | ast.IfExp):
            written = [node.value] if isinstance(node.value, ast.Attribute) else [node.value.body, node.value.orelse]
            levels = [level for level in map(_level, written) if level is not None]
            for target in node.targets if levels else ():
                found[ast.unparse(target)] = min(levels, key=_ORDER.index)
    return found


def _texts(written: ast.expr, function: ast.FunctionDef | ast.AsyncFunctionDef, tree: ast.AST) -> set[str]:
    """Return what an event can be: a text, one of two, or what callers give a parameter."""
    if isinstance(written, ast.Constant):
        return {str(written.value)}
    if isinstance(written, ast.IfExp):
        return _texts(written.body, function, tree) | _texts(written.orelse, function, tree)
    parameters = [item.arg for item in function.args.args if item.arg != "self"]
    if not isinstance(written, ast.Name) or written.id not in parameters:
        return set()
    position = parameters.index(written.id)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _called(node) == function.name]
    given = [call.args[position] for call in calls if len(call.args) > position]
    return {str(item.value) for item in given if isinstance(item, ast.Constant)}


def _called(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition(".")[2]
