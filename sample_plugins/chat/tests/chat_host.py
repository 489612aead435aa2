"""``base04 serve`` with the chat, as a process."""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path

from base04.testing.servers.process import ServerProcess, free_port


class ChatHost(ServerProcess):
    """One host; hosts with one Redis and one file of secrets are one chat."""

    def __init__(self, folder: Path, *, redis_url: str, secrets: Path) -> None:
        super().__init__(folder)
        self.port = 0
        self._redis_url = redis_url
        self._secrets = secrets

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://{self.host}:{self.port}"

    def place(self) -> None:
        self.port = free_port()
        settings = {
            "managers": {
                "redis": {"provider": "server", "server": {"url": self._redis_url}},
                "vault": {"file": {"path": str(self._secrets)}},
                "websocket": {"native": {"presence_lease": "5s"}},
            }
        }
        (self.folder / "base04.yaml").write_text(json.dumps(settings))

    def command(self) -> list[str]:
        return [str(Path(sys.executable).with_name("base04")), "serve", "--port", str(self.port)]

    def answers(self) -> bool:
        if f"Base04 serves {self.url}" not in self.log.read_text():
            return False  # who answers there is another host
        with urllib.request.urlopen(f"{self.url}/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
