"""Workers that die, a supervisor that dies, and a host that is told to end while clients ask."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from base04.testing.servers.redis import RedisServer
from serve_kit import Server, run_base04
from workers_kit import Load, all_serve, is_gone, kill, pids, redis, settings, wait_until, workers_of

Serve = Callable[..., Server]
__all__ = ["redis"]


@pytest.fixture
def host(serve: Serve, tmp_path: Path, redis: RedisServer) -> Server:
    """A host with two workers that serve."""
    server = serve(tmp_path / "host", settings=json.dumps(settings(redis)))
    assert server.url
    return server


def test_worker_that_is_killed_is_replaced_while_the_other_serves(host: Server) -> None:
    killed = pids(host)[0]
    clients = 4
    with Load(host, clients=clients) as load:
        kill(killed, signal.SIGKILL)
        load.wait_for(50)
        wait_until(all_serve(host, 2, but=killed), "no worker has taken its place")
        load.wait_for(50)
    assert set(load.answers) == {200}
    assert len(load.lost) <= clients  # what the killed one was answering, at most one of each client
    assert host.stderr.wait_for("a worker has ended and is replaced") is not None
    assert host.stop() == 0


def test_health_is_degraded_while_a_worker_is_stuck(host: Server) -> None:
    stuck = pids(host)[1]
    kill(stuck, signal.SIGSTOP)
    try:
        wait_until(lambda: workers_of(host)[1]["status"] == "silent", "nobody has noticed")
        found = json.loads(run_base04("health", "--json", cwd=host.folder).stdout)
        assert found["status"] == "degraded"
    finally:
        kill(stuck, signal.SIGCONT)
    wait_until(all_serve(host, 2), "it does not serve again")


def test_worker_that_is_told_to_end_drains_and_is_replaced(host: Server) -> None:
    told = pids(host)[0]
    with Load(host) as load:
        kill(told, signal.SIGTERM)
        wait_until(all_serve(host, 2, but=told), "no worker has taken its place")
        wait_until(lambda: is_gone(told), "it does not end")
        load.wait_for(20)
    assert load.lost == []
    assert set(load.answers) == {200}
    assert host.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end_under_load_loses_no_request(host: Server, number: int) -> None:
    found = pids(host)
    with Load(host, clients=8) as load:
        host.signal(number)
        assert host.wait() == 0
    assert load.lost == []
    assert set(load.answers) == {200}
    assert all(map(is_gone, found))


def test_workers_of_a_killed_supervisor_drain_and_end(host: Server) -> None:
    found = pids(host)
    with Load(host) as load:
        host.signal(signal.SIGKILL)
        host.wait()
        for pid in found:
            wait_until(lambda pid=pid: is_gone(pid), "a worker is left")  # type: ignore[misc]  # a default, no parameter
    assert load.lost == []
    assert set(load.answers) == {200}
    assert host.stderr.text.count("the supervisor is gone") == 2


def test_host_starts_again_after_its_supervisor_was_killed(host: Server, serve: Serve, redis: RedisServer) -> None:
    found = pids(host)
    host.signal(signal.SIGKILL)
    host.wait()
    wait_until(lambda: all(map(is_gone, found)), "a worker is left")
    again = serve(host.folder)
    assert again.url
    assert len(pids(again)) == 2
    assert "admin key" not in again.stdout.text
    assert again.stop() == 0
