"""Every block of code on every page is kept true by something, or says here why nothing can."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs_kit import EXAMPLES, Block, blocks, example_files, written_pages

ALL = [block for page in written_pages() for block in blocks(page)]

FILES = ("python", "yaml", "toml", "ini", "js", "nginx")
"""Languages whose blocks are verbatim parts of files in ``docs/examples`` or ``sample_plugins``, which tests run."""

SESSIONS = ("console",)
"""What is typed by ``test_sessions.py``, which fails for a page with sessions that it does not know."""

SHELL = ("sh",)
"""What ``test_shell.py`` looks at command by command, and runs where that is feasible."""

COMPARED = {
    "README.md": ("json", "text"),
    "docs/run-several-processes.md": ("json", "text"),
    "docs/watch.md": ("json",),
    "docs/websocket.md": ("json",),
}
"""Pages whose blocks of these languages are compared with what a host says.

``test_readme.py``, ``test_messages.py`` and ``test_workers.py`` do so.
"""

ILLUSTRATIONS = {
    ("docs/architecture.md", "hookspecs/base04_hookspecs/"): (
        "a drawing of folders; the direction of imports is held by import-linter"
    ),
    ("docs/watch.md", "POST /actions/{name}"): (
        "a drawing of a trace; test_serve_telemetry.py compares its spans and attributes with what a collector gets"
    ),
}
"""Blocks that nothing here keeps true, by page and first words, each with the reason."""


def is_illustration(block: Block) -> bool:
    return any(block.page == page and block.text.startswith(words) for page, words in ILLUSTRATIONS)


@pytest.mark.parametrize("block", ALL, ids=str)
def test_every_block_is_kept_true(block: Block) -> None:
    kept = (
        block.language in (*FILES, *SESSIONS, *SHELL)
        or block.language in COMPARED.get(block.page, ())
        or is_illustration(block)
    )
    assert kept, (
        f"{block} is in {block.language or 'no language'!r}, and no test keeps such a block of this page true: make it "
        f"a part of a file that tests run ({', '.join(FILES)}), a session (console) or a command (sh); compare it with "
        "what a host says in a test, and name the page in COMPARED; or name it in ILLUSTRATIONS with a reason"
    )


@pytest.mark.parametrize("block", [block for block in ALL if block.language in FILES], ids=str)
def test_code_is_a_part_of_a_file_that_tests_run(block: Block) -> None:
    files = [path for path in example_files() if block.text in path.read_text(encoding="utf-8")]
    assert files, f"{block} is not a verbatim part of a file in docs/examples or sample_plugins:\n{block.text}"


def test_illustrations_are_still_there() -> None:
    assert sum(map(is_illustration, ALL)) == len(ILLUSTRATIONS)
    assert COMPARED.keys() <= {block.page for block in ALL}


def test_no_fence_is_left_open() -> None:
    for page in written_pages():
        fences = [line for line in page.read_text(encoding="utf-8").splitlines() if line.lstrip().startswith("```")]
        assert len(fences) == 2 * len(blocks(page)), page


@pytest.mark.parametrize(
    "file", [path for path in example_files() if EXAMPLES in path.parents], ids=lambda path: str(path.name)
)
def test_every_example_is_used_by_a_test(file: Path) -> None:
    """A file that is shown and not run is worth no more than a block that is only written."""
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    relative = file.relative_to(EXAMPLES)
    known = (file.name, f'"{file.stem}', f'"{relative.parts[0]}"')
    assert any(name in tests for name in known), f"docs/examples/{relative} is named by no test in tests/docs"
