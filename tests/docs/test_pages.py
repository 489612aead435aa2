"""What the pages say is in the files that tests run, and nothing that there is goes unsaid."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from typer.main import get_command

from base04.cli.program import program
from base04.settings import HostSettings, RoleSettings
from base04_hookspecs import host_hooks
from base04_hookspecs.roles import ROLES
from docs_kit import CHECKOUT, DOCS, EXAMPLES, pages

COMMANDS: dict[str, Any] = get_command(program).commands  # type: ignore[attr-defined]  # a group

PARTS: dict[str, type[BaseModel]] = {
    name: type(field.default)
    for name, field in HostSettings.model_fields.items()
    if isinstance(field.default, BaseModel)
}
"""The sections of the host's settings that are models of their own; a new one is found here by itself."""

SECTIONS: dict[str, type[BaseModel]] = {
    "": HostSettings,
    **{f"{name}.": model for name, model in PARTS.items()},
    "managers.<role>.": RoleSettings,
}


def written(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


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
    for section, model in PARTS.items():
        assert shown[section].keys() == model.model_fields.keys()
    keys = {key for role in shown["managers"].values() for key in role}
    assert keys >= RoleSettings.model_fields.keys()


def test_index_names_every_page_once() -> None:
    linked = re.findall(r"^\* \[[^\]]*\]\(([\w-]+\.md)\)", written("README.md"), re.MULTILINE)
    assert sorted(linked) == sorted({page.name for page in pages() if page.parent == DOCS} - {"README.md"})


def test_readme_leads_to_every_page() -> None:
    linked = {*re.findall(r"\]\(docs/([\w-]+\.md)\)", (CHECKOUT / "README.md").read_text(encoding="utf-8"))}
    assert linked == {page.name for page in pages() if page.parent == DOCS}


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
