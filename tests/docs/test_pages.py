"""What the pages say is in the files that tests run, and nothing that there is goes unsaid."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from typer.main import get_command

from base04.cli.program import program
from base04.settings import (
    AuditSettings,
    HostSettings,
    LogSettings,
    PluginSettings,
    RoleSettings,
    ServerSettings,
    TelemetrySettings,
)
from base04_hookspecs import host_hooks
from base04_hookspecs.roles import ROLES
from docs_kit import DOCS, EXAMPLES, Block, blocks, example_files, exchanges, is_generated, pages

COMMANDS: dict[str, Any] = get_command(program).commands  # type: ignore[attr-defined]  # a group

SECTIONS: dict[str, type[BaseModel]] = {
    "": HostSettings,
    "server.": ServerSettings,
    "plugins.": PluginSettings,
    "log.": LogSettings,
    "telemetry.": TelemetrySettings,
    "managers.<role>.": RoleSettings,
}


def written(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "block",
    [block for page in pages() if not is_generated(page) for block in blocks(page, "python", "yaml", "toml")],
    ids=str,
)
def test_code_is_a_part_of_a_file_that_tests_run(block: Block) -> None:
    files = [path for path in example_files() if block.text in path.read_text(encoding="utf-8")]
    assert files, f"{block} is not a verbatim part of a file in docs/examples or sample_plugins:\n{block.text}"


def _base04_commands(text: str) -> Iterator[list[str]]:
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("|&;()<>"):
                while words and re.match(r"[A-Z]\w*=", words[0]):
                    del words[0]
                if words and words[0] == "base04":
                    yield words[1:]
                words = []
            else:
                words.append(word)


@pytest.mark.parametrize("block", [block for page in pages() for block in blocks(page, "sh", "console")], ids=str)
def test_shell_blocks_use_commands_that_there_are(block: Block) -> None:
    typed = block.text if block.language == "sh" else "\n".join(command for _, command, _ in exchanges([block]))
    for words in _base04_commands(typed):
        options = get_command(program).params
        _check(words, COMMANDS, {flag for option in options for flag in getattr(option, "opts", ())}, block)


def _check(words: list[str], commands: dict[str, Any], options: set[str], block: Block) -> None:
    position = 0
    while position < len(words) and words[position].startswith("-"):
        assert words[position] in options, f"{block}: there is no option {words[position]}"
        position += 1 if words[position] in ("--safe-mode", "--help", "-h") else 2
    if position == len(words):
        return
    command = commands.get(words[position])
    if command is None:  # a plugin's; the test of the page's sessions runs it
        assert words[position] == "office", f"{block}: there is no command {words[position]!r}"
        return
    rest = words[position + 1 :]
    if hasattr(command, "commands"):
        _check(rest, command.commands, {"--help"}, block)
        return
    known = {"--help", "-h"} | {flag for option in command.params for flag in getattr(option, "opts", ())}
    for word in rest:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, f"{block}: there is no option {word}"


def _leaf_commands(commands: dict[str, Any], above: str = "base04") -> Iterator[str]:
    for name, command in commands.items():
        if hasattr(command, "commands"):
            yield from _leaf_commands(command.commands, f"{above} {name}")
        else:
            yield f"{above} {name}"


@pytest.mark.parametrize("command", list(_leaf_commands(COMMANDS)))
def test_every_command_is_documented(command: str) -> None:
    assert f"`{command}" in written("run.md")
    assert f"## `{command}" in written("reference/commands.md")


@pytest.mark.parametrize("role", list(ROLES))
def test_every_role_is_documented(role: str) -> None:
    assert f"`{role}`" in written("swap-a-manager.md")
    assert f"# The role `{role}`" in written(f"reference/roles/{role}.md")


@pytest.mark.parametrize(
    "hook", [name for name, item in vars(host_hooks).items() if hasattr(item, "base04_spec")], ids=str
)
def test_every_host_wide_hook_is_documented(hook: str) -> None:
    assert f"`{hook}`" in written("write-a-plugin.md")
    assert f"def {hook}(" in written("reference/hooks.md")


@pytest.mark.parametrize(
    "key", [f"{section}{name}" for section, model in SECTIONS.items() for name in model.model_fields]
)
def test_every_settings_key_of_the_host_is_documented(key: str) -> None:
    assert f"`{key}`" in written("run.md")
    assert f"`{key}`" in written("reference/settings.md")


def test_settings_page_shows_every_key_of_the_host() -> None:
    shown = yaml.safe_load((EXAMPLES / "run" / "base04.yaml").read_text(encoding="utf-8"))
    assert shown.keys() == HostSettings.model_fields.keys()
    for section, model in (
        ("server", ServerSettings),
        ("plugins", PluginSettings),
        ("log", LogSettings),
        ("audit", AuditSettings),
        ("telemetry", TelemetrySettings),
    ):
        assert shown[section].keys() == model.model_fields.keys()
    keys = {key for role in shown["managers"].values() for key in role}
    assert keys >= RoleSettings.model_fields.keys()


def test_index_names_every_page_once() -> None:
    linked = re.findall(r"^\* \[[^\]]*\]\(([\w-]+\.md)\)", written("README.md"), re.MULTILINE)
    assert sorted(linked) == sorted({page.name for page in pages() if page.parent == DOCS} - {"README.md"})


def test_reference_names_every_page_of_it_once() -> None:
    linked = re.findall(r"\]\((reference/[\w/-]+\.md)\)", written("reference.md"))
    below = {page.relative_to(DOCS).as_posix() for page in pages() if page.parent != DOCS}
    assert sorted(linked) == sorted(below)


def anchors(page: Path) -> set[str]:
    """Return what a forge makes of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file = page.parent / target if target else page
        assert file.exists(), f"docs/{page.name} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors(file), f"docs/{page.name} links to {target}#{anchor}, which is not there"
