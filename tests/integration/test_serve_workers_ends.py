"""A host of several workers that is told to end while it starts or cannot end, and one that nobody can start again."""

from __future__ import annotations

import http.client
import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from base04.testing.servers.redis import RedisServer
from serve_kit import PATIENCE_S, Server, install, write
from workers_kit import is_gone, kill, pids, redis, settings, wait_until

Serve = Callable[..., Server]
__all__ = ["redis"]

GATE = '''
import asyncio
from pathlib import Path
from typing import ClassVar

from base04_hookspecs import Manager, Provider, health_report, hookimpl


class Gate(Manager):
    """Starts as files in the working directory say."""

    role: ClassVar[str] = "gate"

    async def start(self):
        if Path("closed").exists():
            raise RuntimeError("the gate is closed")
        while Path("wait").exists():
            Path("waiting").touch()
            await asyncio.sleep(0.01)

    async def stop(self):
        if Path("stuck").exists():
            raise RuntimeError("the gate is stuck")

    async def health_check(self):
        return health_report()


@hookimpl
def extra_providers():
    yield Provider("gate", Gate, role="gate")
'''
PACK = """
    pack: jobs
    version: 1.0.0
    actions:
      for_ever: {summary: Wait for ever, handler: ".jobs:for_ever", access: public, timeout: 1h}
"""
HANDLERS = """
    import asyncio
    from pathlib import Path


    async def for_ever() -> None:
        Path("begun").touch()
        await asyncio.Event().wait()
"""


@pytest.fixture
def begin(serve: Serve, tmp_path: Path, redis: RedisServer) -> Callable[[], Server]:
    """Start a host with two workers, in a folder whose files say how."""
    install(tmp_path / "site", "acme-gate", plugins={"gate": "acme_gate"}, files={"acme_gate.py": GATE})
    folder = tmp_path / "host"
    write(folder / "actions/jobs.yaml", PACK)
    write(folder / "actions/jobs.py", HANDLERS)
    written = settings(redis, action_discovery={"folders": ["actions"]})
    return lambda: serve(folder, settings=json.dumps(written), site=tmp_path / "site")


def test_signal_while_workers_start_ends_the_host(begin: Callable[[], Server], tmp_path: Path) -> None:
    (tmp_path / "host" / "wait").touch()
    host = begin()
    wait_until((host.folder / "waiting").exists, "it does not start")
    host.signal()
    assert host.wait() == 0
    assert host.stdout.text == ""
    assert "Traceback" not in host.stderr.text


def test_second_signal_waits_for_nobody(begin: Callable[[], Server]) -> None:
    host = begin()
    assert host.url
    found = pids(host)
    outcome: list[int] = []

    def ask() -> None:
        connection = http.client.HTTPConnection(*host.address, timeout=PATIENCE_S)
        connection.request("POST", "/actions/jobs.for_ever", "{}", {"content-type": "application/json"})
        outcome.append(connection.getresponse().status)
        connection.close()

    client = threading.Thread(target=ask)
    client.start()
    wait_until((host.folder / "begun").exists, "it does not run")
    host.signal()
    assert host.stderr.wait_for("the host drains") is not None
    host.signal()
    assert host.wait() == 0
    client.join(PATIENCE_S)
    assert outcome == [503]
    assert all(map(is_gone, found))


def test_host_gives_up_where_no_worker_can_be_started_any_more(begin: Callable[[], Server]) -> None:
    host = begin()
    assert host.url
    found = pids(host)
    (host.folder / "closed").touch()
    for pid in found:
        kill(pid, signal.SIGKILL)
    assert host.wait() == 1
    told = host.stderr.text.splitlines()[-1]
    assert told.startswith("base04: No worker can start.")
    assert "the gate is closed" in told


def test_worker_that_does_not_stop_as_it_should_is_told_of(begin: Callable[[], Server]) -> None:
    host = begin()
    assert host.url
    (host.folder / "stuck").touch()
    host.signal()
    assert host.wait() == 1
    assert "the gate is stuck" in host.stderr.text
    assert host.stderr.text.splitlines()[-1].startswith("base04: Worker ")
