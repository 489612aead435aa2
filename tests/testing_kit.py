"""Projects of third parties, whose tests run in a pytest of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE_S = 300.0
INI = """\
[pytest]
asyncio_mode = {mode}
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""


@dataclass(slots=True)
class Outcome:
    """What a run of pytest printed and how it ended."""

    status: int
    text: str
    counts: dict[str, int] = field(default_factory=dict)


class Project:
    """A folder with a configuration, a conftest and tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("pytest.ini", INI.format(mode="auto"))

    def write(self, name: str, text: str) -> Path:
        """Write a file, without the common indentation of its lines."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")
        return file

    def run(self, *arguments: str, environ: Mapping[str, str] | None = None) -> Outcome:
        """Run its tests."""
        dropped = ("PYTEST_", "BASE04_", "COV_", "COVERAGE_", "PYTHONDONTWRITEBYTECODE")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rA", "--tb=short", *arguments],
            cwd=self.folder,
            env={**inherited, **(environ or {}), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        text = done.stdout + done.stderr
        return Outcome(done.returncode, text, _counts(done.stdout))


def _counts(text: str) -> dict[str, int]:
    """Read ``2 passed, 1 error in 0.1s``, the last line."""
    last = text.strip().splitlines()[-1].strip("= ") if text.strip() else ""
    words = last.partition(" in ")[0].replace(",", "").split()
    return {words[at + 1].rstrip("s"): int(words[at]) for at in range(0, len(words) - 1, 2) if words[at].isdigit()}
