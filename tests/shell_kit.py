"""A shell that types what pages say, and tells whether it answers what they say."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
from pathlib import Path
from typing import Final

START_TIMEOUT_S: Final = 60


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
        if re.match(r"(\S+/)?base04 serve\b", command):
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
