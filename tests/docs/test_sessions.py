"""The shell sessions of the pages, typed in a fresh folder, answer what the pages say.

A page's `console` blocks are one session: lines that begin with `$ ` are run, what follows is what they print, and
`...` stands for anything. `base04 serve` goes on in the background, on a free port in place of 8000, until `^C`, the
next one or the end.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from docs_kit import DOCS, EXAMPLES, SAMPLES, blocks, environment, exchanges
from shell_kit import Shell, agrees

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
    assert {page for page in os.listdir(DOCS) if page.endswith(".md") and blocks(DOCS / page, "console")} == set(SETUP)
