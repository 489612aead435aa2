"""The shell sessions of the pages, typed in a fresh folder, answer what the pages say.

A page's `console` blocks are one session: lines that begin with `$ ` are run, what follows is what they print, and
`...` stands for anything. `base04 serve` goes on in the background, on a free port in place of 8000, until `^C`, the
next one or the end.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from docs_kit import DOCS, EXAMPLES, SAMPLES, blocks, environment, exchanges

START_TIMEOUT_S = 60

SETUP: dict[str, tuple[tuple[Path, ...], Path | None]] = {
    "authentication.md": ((), None),
    "run.md": ((), None),
    "write-a-plugin.md": ((EXAMPLES / "hello_plugin", SAMPLES / "mailer"), EXAMPLES / "office"),
    "swap-a-manager.md": ((SAMPLES / "limits_rate_limiter",), EXAMPLES / "swap"),
    "run-actions.md": ((), EXAMPLES / "jobs"),
    "write-an-action-pack.md": ((SAMPLES / "library",), EXAMPLES / "pack"),
}
"""For each page with a session: what is installed, and the files that lie in the folder."""


class Shell:
    """Types commands, and keeps a host in the background."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self._folder, self._environ = folder, environ
        self._host: subprocess.Popen[bytes] | None = None
        self._url = ""

    def type(self, command: str) -> tuple[int, str]:
        """Run a command and return its status and all that it prints but logs."""
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            status, self._environ[name] = self.type(f"printf %s {value}")
            return status, ""
        if command == "^C":
            self.stop()
            return 0, ""
        if command.startswith("base04 serve"):
            return 0, self._serve(command)
        command = command.replace("http://localhost:8000", self._url).replace("localhost:8000", self._url)
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self._folder,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )
        errors = [f"{line}\n" for line in done.stderr.splitlines() if not line.startswith('{"')]
        return done.returncode, "".join(errors) + done.stdout

    def _serve(self, command: str) -> str:
        """Start a host in the background and return its greeting, which it writes at once."""
        self.stop()
        log = self._folder.parent / "serve.log"
        with log.open("a") as errors:
            host = self._host = subprocess.Popen(
                ["bash", "-c", f"exec {command} --port 0"],
                cwd=self._folder,
                env=self._environ,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        assert host.stdout is not None
        ready, _, _ = select.select([host.stdout], [], [], START_TIMEOUT_S)
        greeting = os.read(host.stdout.fileno(), 65536).decode() if ready else ""
        found = re.search(r"serves (http://\S+)", greeting)
        assert found is not None, f"{command} did not serve: {log.read_text()}"
        self._url = found[1]
        return greeting.replace(self._url, "http://127.0.0.1:8000")

    def stop(self) -> None:
        """Stop the host; it ends with status 0."""
        host, self._host = self._host, None
        if host is not None:
            host.send_signal(signal.SIGTERM)
            host.communicate(timeout=START_TIMEOUT_S)
            assert host.returncode == 0


def agrees(expected: str, printed: str) -> bool:
    """Tell whether something was printed as expected, whatever the widths of columns."""
    pattern = r"\s*".join(
        r".*?" if word == "..." else r".*?".join(map(re.escape, word.split("...")))
        for word in re.sub(r"─+", "─", expected).split()
    )
    return re.fullmatch(rf"\s*{pattern}\s*", re.sub(r"─+", "─", printed), re.DOTALL) is not None


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
