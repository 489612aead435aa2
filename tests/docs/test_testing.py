"""The tests that the page on testing shows pass as they stand, in a project of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from docs_kit import DOCS, EXAMPLES
from testing_kit import Project


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_tests_of_the_page_pass(tmp_path: Path, mode: str) -> None:
    shutil.copytree(EXAMPLES / "testing", tmp_path / "visits", ignore=shutil.ignore_patterns("__pycache__"))
    project = Project(tmp_path / "visits")
    if mode == "strict":
        for file in (project.folder / "tests").glob("test_*.py"):
            text = file.read_text(encoding="utf-8")
            text = text.replace("async def test_", "@pytest.mark.asyncio\nasync def test_")
            file.write_text(text.replace("\nfrom ", "\nimport pytest\nfrom ", 1), encoding="utf-8")
        (project.folder / "tests" / "test_manager.py").unlink()  # suites are for the mode `auto`
        project.write("pytest.ini", "[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    done = project.run("-W", "error")
    assert done.status == 0, done.text
    assert done.counts.keys() == {"passed"}, done.text


def test_page_names_every_fixture() -> None:
    from base04.testing.fixtures.fakes import ROLES
    from base04.testing.fixtures.offer import NAMES

    page = (DOCS / "test-a-plugin.md").read_text(encoding="utf-8")
    names = {*NAMES} - {f"fake_{role}" for role in ROLES}
    missing = [name for name in sorted(names) if f"`{name}`" not in page and f"`{name}(" not in page]
    assert missing == []
