"""The program that has a report built in the background."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from docs_kit import DOCS, EXAMPLES, blocks
from serve_kit import PATIENCE_S, Server, environment


def test_client_shows_how_far_the_report_is(tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    shutil.copytree(EXAMPLES / "jobs", folder, ignore=shutil.ignore_patterns("__pycache__"))
    with Server(folder) as server:
        done = subprocess.run(
            [sys.executable, folder / "client.py", server.url, server.admin_key],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert server.stop() == 0
    *progress, report = done.stdout.splitlines()
    assert report.startswith("Report(pages="), done.stderr
    assert progress[-1] == "bound"


def test_page_shows_the_program() -> None:
    shown = [block.text for block in blocks(DOCS / "run-actions.md", "python")]
    written = (EXAMPLES / "jobs" / "client.py").read_text()
    assert any(text.startswith("def build_report") and text in written for text in shown)
