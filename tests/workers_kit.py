"""What tests of several workers share: a Redis, settings that fit, and clients that do not stop asking."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from base04.data_folder import DataFolder
from base04.testing.servers.redis import RedisServer
from serve_kit import PATIENCE_S, Server, run_base04

__all__ = ["redis"]

GENEROUS = {"limits": {"ip": "1000000/minute", "user": "1000000/minute", "api_key": "1000000/minute"}}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    with RedisServer(tmp_path / "redis") as server:
        yield server


def settings(redis: RedisServer, workers: int = 2, **managers: Any) -> dict[str, Any]:
    """Return settings of a host whose workers share a Redis, and SQLite and secrets in the data folder."""
    return {
        "server": {"workers": workers, "health_interval": "200ms"},
        "managers": {
            "redis": {"provider": "server", "server": {"url": redis.url}},
            "rate_limiter": GENEROUS,
            **managers,
        },
    }


def workers_of(server: Server) -> list[dict[str, Any]]:
    """Return what any worker says of all of them, through the control socket."""
    answer = run_base04("health", "--json", cwd=server.folder)
    assert answer.returncode == 0, answer.stderr
    found: list[dict[str, Any]] = json.loads(answer.stdout)["workers"]
    return found


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Wait for something that nobody announces."""
    give_up = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < give_up, what
        time.sleep(0.05)


def all_serve(server: Server, number: int, *, but: int | None = None) -> Callable[[], bool]:
    """Tell whether so many workers serve one revision, the process ``but`` not among them."""

    def told() -> bool:
        found = workers_of(server)
        serving = [item["pid"] for item in found if item["status"] == "serving"]
        return len(serving) == number and but not in serving and len({item["revision"] for item in found}) == 1

    return told


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended; one that nobody has waited for yet counts as ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def fresh(server: Server, method: str, path: str, body: str | None = None, /, **headers: str) -> tuple[int, bytes]:
    """Ask over a connection of its own, which any worker may accept."""
    connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE_S)
    try:
        connection.request(method, path, body, {"connection": "close", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class Load:
    """Clients that ask again and again, each over a new connection, until the host takes no more connections.

    ``answers`` counts by status; ``lost`` are requests over an accepted connection that got no answer.
    """

    def __init__(self, server: Server, path: str = "/health/live", clients: int = 4) -> None:
        self._server, self._path = server, path
        self.answers: Counter[int] = Counter()
        self.lost: list[Exception] = []
        self._ended, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(clients)]
        self._some = threading.Condition(self._lock)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.wait_for(20)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.end()

    def wait_for(self, more: int) -> None:
        """Wait until so many more requests were answered."""
        with self._some:
            wanted = self.answers.total() + more
            assert self._some.wait_for(lambda: self.answers.total() >= wanted, PATIENCE_S)

    def end(self) -> None:
        """Ask no more."""
        self._ended.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()

    def _ask(self) -> None:
        while not self._ended.is_set():
            connection = http.client.HTTPConnection(*self._server.address, timeout=PATIENCE_S)
            try:
                connection.connect()
            except ConnectionRefusedError:
                return
            except OSError as error:
                self._lose(error)
                continue
            try:
                connection.request("GET", self._path, headers={"connection": "close"})
                answer = connection.getresponse()
                answer.read()
                with self._some:
                    self.answers[answer.status] += 1
                    self._some.notify_all()
            except (OSError, http.client.HTTPException) as error:
                self._lose(error)
            finally:
                connection.close()

    def _lose(self, error: Exception) -> None:
        with self._lock:
            self.lost.append(error)


def own_sockets(server: Server) -> list[Path]:
    """Return where each worker alone listens, in the order of their starts."""
    folder = DataFolder(server.folder / "base04-data").socket_path.parent / "workers"
    return sorted(folder.iterdir(), key=lambda path: int(path.stem))


def pids(server: Server) -> list[int]:
    """Return the processes of all workers that there are."""
    return [item["pid"] for item in workers_of(server) if item["pid"] is not None]


def kill(pid: int, number: int) -> None:
    """Send a signal to a worker of a test's own host."""
    os.kill(pid, number)
