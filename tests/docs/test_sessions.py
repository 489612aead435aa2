"""The shell sessions of the pages, typed in a fresh folder, answer what the pages say.

A page's `console` blocks are one session: lines that begin with `$ ` are run, what follows is what they print, and
`...` stands for anything. `base04 serve` goes on in the background, on a free port in place of 8000, until `^C`, the
next one or the end.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from docs_kit import DOCS, EXAMPLES, SAMPLES, blocks, environment, exchanges
from shell_kit import Shell, agrees

TUTORIAL = DOCS / "tutorial.md"

SETUP: dict[str, tuple[tuple[Path, ...], Path | None]] = {
    "authentication.md": ((), None),
    "run.md": ((), None),
    "write-a-plugin.md": ((EXAMPLES / "hello_plugin", SAMPLES / "mailer"), EXAMPLES / "office"),
    "swap-a-manager.md": ((SAMPLES / "limits_rate_limiter",), EXAMPLES / "swap"),
    "run-actions.md": ((), EXAMPLES / "jobs"),
    "write-an-action-pack.md": ((SAMPLES / "library",), EXAMPLES / "pack"),
}
"""For each page with a session: what is installed, and the files that lie in the folder."""


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing: apt-get install curl")
@pytest.mark.parametrize("page", SETUP)
def test_session_answers_what_the_page_says(page: str, tmp_path: Path) -> None:
    session = blocks(DOCS / page, "console")
    assert session
    distributions, files = SETUP[page]
    if SAMPLES / "limits_rate_limiter" in distributions:
        pytest.importorskip("limits", reason="the sample needs the limits library: pip install limits")
    folder = tmp_path / "try"
    if files is None:
        folder.mkdir()
    else:
        shutil.copytree(files, folder, ignore=shutil.ignore_patterns("__pycache__"))
    shell = Shell(folder, environment(tmp_path / "machine", *distributions))
    try:
        for block, command, expected in exchanges(session):
            status, printed = shell.type(command)
            assert agrees(expected, printed), f"{block}: {command}\nshould print\n{expected}\nand prints\n{printed}"
            refused = "base04: " in expected or "Usage: " in expected or "actions validate" in command
            assert refused == (status != 0), f"{block}: {command} ended with status {status}: {printed}"
    finally:
        shell.stop()


def test_every_page_with_a_session_is_typed() -> None:
    with_sessions = {page.name for page in DOCS.glob("*.md") if blocks(page, "console")}
    assert with_sessions == {*SETUP, TUTORIAL.name}


def written_files(page: Path) -> dict[int, Path]:
    """Return by the lines of blocks where the sentences before them say that they are written."""
    lines = page.read_text(encoding="utf-8").splitlines()
    found = {}
    for number, line in enumerate(lines, start=1):
        if line.startswith("```") and line[3:] in ("yaml", "python"):
            named = re.search(r"`([\w./]+)`[^`]*:$", "\n".join(lines[: number - 1]).rstrip())
            assert named is not None, f"{page.name}:{number} does not say where this is written"
            found[number] = Path(named[1])
    return found


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing: apt-get install curl")
def test_tutorial_can_be_followed_word_for_word(tmp_path: Path) -> None:
    pytest.importorskip("limits", reason="the sample needs the limits library: pip install limits")
    clone = tmp_path / "clone"
    shutil.copytree(SAMPLES, clone / SAMPLES.name, ignore=shutil.ignore_patterns("__pycache__"))
    (clone / "tutorial").mkdir()
    files = written_files(TUTORIAL)
    shell = Shell(clone / "tutorial", environment(tmp_path / "machine"))
    try:
        for block in blocks(TUTORIAL, "console", "yaml", "python"):
            if block.language == "console":
                for _, command, expected in exchanges([block]):
                    status, printed = shell.type(command)
                    assert agrees(expected, printed), f"{block}: {command} prints\n{printed}"
                    assert status == 0, f"{block}: {command}: {printed}"
            else:
                target = clone / "tutorial" / files[block.line]
                target.parent.mkdir(exist_ok=True)
                target.write_text(block.text, encoding="utf-8")
    finally:
        shell.stop()
    shown = {path.name for path in files.values()}
    assert shown == {"visits.yaml", "visits.py", "board.py", "base04.yaml"}
