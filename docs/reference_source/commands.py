"""The command line: every command with its arguments and options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from base04.cli.program import program
from reference_source.page import Page


def page() -> Page:
    """Return the page."""
    return Page.of("reference/commands.md", "Commands", _commands())


def _commands() -> Iterator[str]:
    root: Any = get_command(program)
    yield from _options("base04", root)
    for name in sorted(root.commands):
        yield from _command(f"base04 {name}", root.commands[name])


def _command(name: str, command: Any) -> Iterator[str]:
    if hasattr(command, "commands"):
        for inner in sorted(command.commands):
            yield from _command(f"{name} {inner}", command.commands[inner])
    else:
        yield from _options(name, command)


def _options(name: str, command: Any) -> Iterator[str]:
    arguments = "".join(f" [{item.name}]" for item in command.params if item.param_type_name == "argument")
    yield from (f"## `{name}{arguments}`", "", command.help, "")
    shown = [item for item in command.params if not {"--install-completion", "--show-completion"} & {*item.opts}]
    for item in shown:
        label = item.name if item.param_type_name == "argument" else ", ".join(item.opts)
        yield f"* `{label}`: {item.help}" if item.help else f"* `{label}`"
    if shown:
        yield ""
