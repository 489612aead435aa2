"""``base04 serve`` with the plugin, as a process."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, Final

import httpx2 as httpx
from receiver import PATIENCE_S

from base04.testing.servers.process import ServerProcess, free_port

_PROGRAM: Final = str(Path(sys.executable).with_name("base04"))

_SAFE: Final = '''
from base04_hookspecs import hookimpl

async def open_safe(code: str) -> str:
    """Open it, or not."""
    if code != "correct horse":
        raise ValueError(f"{code} is the wrong code")
    return "battery staple"

@hookimpl
def action_packs():
    action = {
        "handler": open_safe,
        "access": "public",
        "parameters": {"code": {"type": "string"}},
        "required": ["code"],
    }
    yield {"pack": "safe", "version": "1.0.0", "actions": {"open": action}}
'''


class WebhooksHost(ServerProcess):
    """A host with one endpoint."""

    def __init__(self, folder: Path, endpoint: dict[str, Any], **settings: Any) -> None:
        super().__init__(folder)
        self.port = 0
        webhooks = {"endpoints": {"one": endpoint}, "pause": "20ms", "longest_pause": "100ms", "attempts": 1000}
        self._settings = {"managers": {"webhooks": {**webhooks, **settings}}, "plugins": {"paths": ["plugins"]}}

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://{self.host}:{self.port}"

    def place(self) -> None:
        self.port = free_port()
        (self.folder / "plugins").mkdir(parents=True, exist_ok=True)
        (self.folder / "plugins" / "safe.py").write_text(_SAFE)
        (self.folder / "base04.yaml").write_text(json.dumps(self._settings))

    def command(self) -> list[str]:
        return [_PROGRAM, "serve", "--port", str(self.port)]

    def answers(self) -> bool:
        if f"Base04 serves {self.url}" not in self.log.read_text():
            return False  # who answers there is another host
        with urllib.request.urlopen(f"{self.url}/health/ready", timeout=PATIENCE_S) as answer:
            return bool(answer.status == 200)

    def run(self, *arguments: str) -> str:
        """Run a command in the folder of the host, and return what it prints."""
        done = subprocess.run(
            [_PROGRAM, *arguments], cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE_S, check=True
        )
        return done.stdout.strip()

    def client(self, key: str | None = None) -> httpx.Client:
        """Return a client, which shows a key where there is one."""
        shown = {} if key is None else {"x-api-key": key}
        return httpx.Client(base_url=self.url, headers=shown, timeout=PATIENCE_S)
