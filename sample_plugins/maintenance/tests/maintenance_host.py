"""``base04 serve`` with the plugin, as a process."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, Final

import httpx2 as httpx

from base04.testing.servers.process import ServerProcess, free_port

_PROGRAM: Final = str(Path(sys.executable).with_name("base04"))
PATIENCE_S: Final = 60.0

_WORK: Final = '''
from base04_hookspecs import hookimpl

async def work() -> str:
    """Work."""
    return "done"

@hookimpl
def action_packs():
    yield {"pack": "work", "version": "1.0.0", "actions": {"work": {"handler": work, "access": "public"}}}
'''


class MaintenanceHost(ServerProcess):
    """A host; those with one folder to share have one database and one vault."""

    def __init__(self, folder: Path, shared: Path, **maintenance: Any) -> None:
        super().__init__(folder)
        self.port = 0
        managers = {
            "redis": {"provider": "memory"},
            "database": {"provider": "sqlite", "sqlite": {"path": str(shared / "database.sqlite3")}},
            "vault": {"file": {"path": str(shared / "secrets.json")}},
            "rate_limiter": {"limits": {"ip": "100000/minute", "user": "100000/minute"}},
            "maintenance": maintenance,
        }
        self._settings = {"managers": managers, "plugins": {"paths": ["plugins"]}}

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://{self.host}:{self.port}"

    def place(self) -> None:
        self.port = free_port()
        self.write()

    def write(self) -> None:
        """Write what the host reads."""
        (self.folder / "plugins").mkdir(parents=True, exist_ok=True)
        (self.folder / "plugins" / "work.py").write_text(_WORK)
        (self.folder / "base04.yaml").write_text(json.dumps(self._settings))

    def command(self) -> list[str]:
        return [_PROGRAM, "serve", "--port", str(self.port)]

    def answers(self) -> bool:
        if f"Base04 serves {self.url}" not in self.log.read_text():
            return False  # who answers there is another host
        with urllib.request.urlopen(f"{self.url}/health/ready", timeout=PATIENCE_S) as answer:
            return bool(answer.status == 200)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder of the host."""
        return subprocess.run(
            [_PROGRAM, *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def key(self, user: str, *permissions: str) -> str:
        """Make an API key, as an operator does."""
        flags = [word for permission in permissions for word in ("--permission", permission)]
        return self.run("keys", "create", "--user", user, *flags).stdout.strip()

    def client(self, key: str | None = None, **headers: str) -> httpx.Client:
        """Return a client, which shows a key where there is one."""
        shown = {} if key is None else {"x-api-key": key}
        return httpx.Client(base_url=self.url, headers={**shown, **headers}, timeout=PATIENCE_S)
