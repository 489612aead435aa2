"""The reference is what the code says."""

from __future__ import annotations

import subprocess
import sys

from docs_kit import DOCS

REWRITE = "python docs/generate_reference.py"


def test_reference_is_up_to_date() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import generate_reference as g; sys.stdout.write(g.reference())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(DOCS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = (DOCS / "reference.md").read_text(encoding="utf-8")
    assert done.stdout == written, f"docs/reference.md is not what the code says: run `{REWRITE}`"


def test_page_names_the_command_that_writes_it() -> None:
    assert f"run `{REWRITE}`" in (DOCS / "reference.md").read_text(encoding="utf-8")
