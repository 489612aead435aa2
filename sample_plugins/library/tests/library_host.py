"""``base04 serve`` with the library, as a process."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Final

from base04.testing.servers.process import ServerProcess, free_port

PROGRAM: Final = str(Path(sys.executable).with_name("base04"))


class LibraryHost(ServerProcess):
    """A host that keeps what it has in its folder, from one start to the next."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = 0

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://{self.host}:{self.port}"

    def place(self) -> None:
        self.port = free_port()
        (self.folder / "base04.yaml").write_text(json.dumps({"log": {"level": "debug"}}))

    def command(self) -> list[str]:
        return [PROGRAM, "serve", "--port", str(self.port)]

    def answers(self) -> bool:
        if f"Base04 serves {self.url}" not in self.log.read_text():
            return False  # who answers there is another host
        with urllib.request.urlopen(f"{self.url}/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)

    def key(self, user: str, *permissions: str) -> str:
        """Make an API key, as an operator does."""
        flags = [word for permission in permissions for word in ("--permission", permission)]
        made = subprocess.run(
            [PROGRAM, "keys", "create", "--user", user, *flags],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=True,
        )
        return made.stdout.strip()
