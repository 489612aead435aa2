"""What the pages show of hooks, contracts and commands is called as it is written there."""

from __future__ import annotations

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.main import get_command

import base04
import base04.blocking
import base04.client
import base04_hookspecs
from base04.cli.program import program
from base04_hookspecs import app, host_hooks
from base04_hookspecs.manager import Manager
from base04_hookspecs.roles import ROLES
from docs_kit import Block, blocks, written_pages

HOOKS = {name: item for name, item in vars(host_hooks).items() if hasattr(item, "base04_spec")}
PYTHON = [block for page in written_pages() for block in blocks(page, "python")]


def decorated(block: Block) -> Iterator[ast.FunctionDef]:
    """Yield the hook implementations of a block."""
    try:
        tree = ast.parse(block.text)
    except SyntaxError:  # a part of a function; what it is a part of is compiled
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and any("hookimpl" in ast.unparse(item) for item in node.decorator_list):
            yield node


def widened(annotation: str) -> str:
    """Return what a hook may return for what it is specified to: an iterator is an iterable, a dict a mapping."""
    return re.sub(r"\b(Iterator|list)\b", "Iterable", re.sub(r"\bdict\b", "Mapping", annotation))


SHOWN = [(block, function) for block in PYTHON for function in decorated(block)]


@pytest.mark.parametrize(("block", "function"), SHOWN, ids=[f"{block}-{found.name}" for block, found in SHOWN])
def test_hook_is_implemented_as_it_is_specified(block: Block, function: ast.FunctionDef) -> None:
    role = function.name.removesuffix("_providers")
    if function.name not in HOOKS and role in ROLES:
        returned, parameters = "Iterable[Provider]", {"app"}
    else:
        specified = inspect.signature(HOOKS[function.name])
        returned, parameters = str(specified.return_annotation), {*specified.parameters}
    assert function.returns is not None
    assert widened(ast.unparse(function.returns)) == widened(returned), f"{block}: {function.name} returns {returned}"
    taken = {item.arg for item in function.args.args}
    assert taken <= parameters, f"{block}: {function.name} is never given {taken - parameters}"


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_shown_on_its_page(hook: str) -> None:
    assert any(function.name == hook and block.page == "docs/write-a-plugin.md" for block, function in SHOWN)


def callables() -> dict[str, list[Callable[..., Any]]]:
    """Return everything that pages may call, by name: methods of contracts, of the host, of clients, and functions."""
    found: dict[str, list[Callable[..., Any]]] = defaultdict(list)
    classes: list[Any] = [Manager, app.AppManager, base04.AppManager, base04.blocking.AppManager, *ROLES.values()]
    classes += [getattr(base04.client, name) for name in base04.client.__all__]
    for cls in classes:
        for name, method in inspect.getmembers(cls, inspect.isfunction):
            found[name].append(method)
        found[cls.__name__].append(cls)
    for module in (base04, base04_hookspecs):
        for name in module.__all__:
            if callable(getattr(module, name)):
                found[name].append(getattr(module, name))
    return found


CALLABLES = callables()
OF_LIBRARIES = frozenset({"get", "run", "RedisManager", "print", "open", "field"})
"""Names that belong to others too, whose signatures are not ours."""


def spans() -> Iterator[tuple[str, str]]:
    """Yield the pieces of code within the text of all pages."""
    for page in written_pages():
        text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for span in re.findall(r"`([^`\n]+)`", text):
            yield page.name, span.replace("\\|", "|")


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    for page, span in spans():
        try:
            written = ast.parse(span, mode="eval").body
        except (SyntaxError, ValueError):
            continue
        written = written.value if isinstance(written, ast.Await) else written
        if isinstance(written, ast.Call):
            name = ast.unparse(written.func).rpartition(".")[2]
            if name in CALLABLES and name not in OF_LIBRARIES:
                yield page, span, written


CALLS = list(calls())


@pytest.mark.parametrize(("page", "span", "call"), CALLS, ids=[f"{page}: {span}" for page, span, _ in CALLS])
def test_call_in_a_text_fits_a_signature(page: str, span: str, call: ast.Call) -> None:
    name = ast.unparse(call.func).rpartition(".")[2]
    fits = [
        item
        for item in CALLABLES[name]
        if _binds(item, [*call.args], {word.arg for word in call.keywords if word.arg is not None})
    ]
    assert fits, f"{page}: `{span}` fits none of {[str(inspect.signature(item)) for item in CALLABLES[name]]}"


def _binds(item: Callable[..., Any], given: list[ast.expr], named: set[str]) -> bool:
    """Tell whether something takes these arguments; required ones may be left out in a text, ``...`` is anything."""
    count = len([argument for argument in given if ast.unparse(argument) != "..."])
    before = [None] if inspect.isfunction(item) and "self" in inspect.signature(item).parameters else []
    try:
        inspect.signature(item).bind_partial(*before, *([None] * count), **dict.fromkeys(named))
    except TypeError:
        return False
    return True


def test_calls_are_found() -> None:
    assert len(CALLS) > 10
    wrong = ast.parse("manager.get_manager('database', instanse='x')", mode="eval").body
    assert isinstance(wrong, ast.Call)
    assert not any(_binds(item, [*wrong.args], {"instanse"}) for item in CALLABLES["get_manager"])


OPTIONS = sorted({(page, span) for page, span in spans() if re.match(r"(\.venv/bin/)?base04 [a-z-]", span)})


@pytest.mark.parametrize(("page", "span"), OPTIONS, ids=[f"{page}: {span}" for page, span in OPTIONS])
def test_command_in_a_text_is_there_with_its_options(page: str, span: str) -> None:
    words = re.sub(r"\.venv/bin/", "", span).split()[1:]
    command: Any = get_command(program)
    flags = {flag for item in command.params for flag in (*item.opts, *item.secondary_opts)}
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in flags, f"{page}: `{span}`: there is no {word}"
        elif hasattr(command, "commands") and not word.startswith("-"):
            command = command.commands.get(word)
            assert command is not None, f"{page}: `{span}`: there is no {word!r}"
            flags |= {flag for item in command.params for flag in (*item.opts, *item.secondary_opts)}
