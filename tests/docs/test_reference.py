"""The reference is what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from docs_kit import CHECKOUT, DOCS, is_generated, pages

REWRITE = "python docs/generate_reference.py"


def test_reference_is_up_to_date() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import generate_reference as g; print(*g.outdated())"
    done = subprocess.run([sys.executable, "-c", code, str(DOCS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [], f"These pages are not what the code says: run `{REWRITE}`"


def test_picture_is_what_the_command_draws(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "base04", "--safe-mode", "graph", "--format", "svg"]
    drawn = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert drawn == (DOCS / "images" / "graph.svg").read_text(encoding="utf-8")
    assert "](images/graph.svg)" in (DOCS / "architecture.md").read_text(encoding="utf-8")


def test_every_page_names_the_command_that_writes_it() -> None:
    generated = [page for page in pages() if is_generated(page)]
    assert len(generated) > 20
    for page in generated:
        assert f"run `{REWRITE}`" in page.read_text(encoding="utf-8"), page
    assert (CHECKOUT / REWRITE.split()[1]).is_file()
