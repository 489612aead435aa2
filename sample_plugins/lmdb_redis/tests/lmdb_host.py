"""``base04 serve`` as a process; hosts with one folder to share are one application."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, Final

import httpx2 as httpx

from base04.testing.servers.process import ServerProcess, free_port

_PROGRAM: Final = str(Path(sys.executable).with_name("base04"))
_TIMEOUT_S: Final = 60.0

_VISITS: Final = '''
import os
from collections.abc import Iterable
from typing import Any
from base04_hookspecs import hookimpl
from base04_hookspecs.redis import RedisManager

async def where() -> int:
    """Tell which process answers."""
    return os.getpid()

async def visit(name: str, redis: RedisManager) -> int:
    """Count a visit."""
    return await redis.incr(f"b04:visits:{name}")

@hookimpl
def action_packs() -> Iterable[dict[str, Any]]:
    """Define the pack."""
    action = {"handler": visit, "parameters": {"name": {"type": "string"}}, "required": ["name"]}
    yield {"pack": "visits", "version": "1.0.0", "actions": {"visit": action, "where": {"handler": where}}}
'''


class LmdbHost(ServerProcess):
    """One host, which finds the provider because its distribution is installed."""

    def __init__(self, folder: Path, shared: Path, **settings: Any) -> None:
        super().__init__(folder)
        self.port = 0
        managers = {
            "redis": {"lmdb": {"path": str(shared / "lmdb")}},
            "database": {"provider": "sqlite", "sqlite": {"path": str(shared / "database.sqlite3")}},
            "vault": {"file": {"path": str(shared / "secrets.json")}},
            "rate_limiter": {"provider": "gcra", "limits": {"ip": "100000/minute", "user": "1000/day"}},
        }
        self._settings = {"managers": managers, "plugins": {"paths": ["plugins"]}, **settings}

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://{self.host}:{self.port}"

    def place(self) -> None:
        self.port = free_port()
        (self.folder / "plugins").mkdir(exist_ok=True)
        (self.folder / "plugins" / "visits.py").write_text(_VISITS)
        (self.folder / "base04.yaml").write_text(json.dumps(self._settings))

    def command(self) -> list[str]:
        return [_PROGRAM, "serve", "--port", str(self.port)]

    def answers(self) -> bool:
        if f"Base04 serves {self.url}" not in self.log.read_text():
            return False  # who answers there is another host
        with urllib.request.urlopen(f"{self.url}/health/ready", timeout=_TIMEOUT_S) as answer:
            return bool(answer.status == 200)

    def run(self, *arguments: str) -> str:
        """Run a command in the folder of the host, and return what it prints."""
        done = subprocess.run(
            [_PROGRAM, *arguments], cwd=self.folder, env=os.environ, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def client(self, key: str) -> httpx.Client:
        """Return a client that shows a key."""
        return httpx.Client(base_url=self.url, headers={"x-api-key": key}, timeout=_TIMEOUT_S)
