"""``base04 serve --workers``: one command, several processes, one host."""

from __future__ import annotations

import json
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from base04.testing.servers.redis import RedisServer
from serve_kit import Server, install, run_base04
from workers_kit import fresh, is_gone, kill, own_sockets, pids, redis, settings

Serve = Callable[..., Server]
__all__ = ["redis"]

ALONE = """
from base04_hookspecs import Provider, hookimpl
from base04_hookspecs.vault import VaultManager

@hookimpl
def vault_providers():
    yield Provider("cupboard", "acme_cupboard:Cupboard", summary="secrets of one process")

class Cupboard(VaultManager):
    async def get_secret_value(self, path, key): raise NotImplementedError
    async def set_secret_value(self, path, key, value): raise NotImplementedError
    async def create_secret_value(self, path, key, value): raise NotImplementedError
    async def delete_secret(self, path): raise NotImplementedError
    async def list_secrets(self, prefix=""): raise NotImplementedError
    async def watch_secret(self, path, callback): raise NotImplementedError
    async def get_connection_info(self): raise NotImplementedError
    async def health_check(self): raise NotImplementedError
"""


@pytest.fixture
def host(serve: Serve, tmp_path: Path, redis: RedisServer) -> Server:
    """A host with two workers that serve."""
    server = serve(tmp_path / "host", settings=json.dumps(settings(redis)))
    assert server.url
    return server


# Refusals


def test_what_each_process_would_have_for_itself_is_refused_before_anything_starts(tmp_path: Path) -> None:
    install(
        tmp_path / "site", "acme-cupboard", plugins={"cupboard": "acme_cupboard"}, files={"acme_cupboard.py": ALONE}
    )
    answer = run_base04("serve", "--workers", "2", "--port", "0", cwd=tmp_path, site=tmp_path / "site")
    assert answer.returncode == 1
    assert answer.stdout == ""
    redis, vault = [line for line in answer.stderr.splitlines() if line.startswith("  - ")]
    assert "redis: the provider memory" in redis
    assert "values, counters and messages" in redis
    assert "`managers.redis.provider: server`" in redis
    assert "vault: the provider cupboard" in vault
    assert "capability 'shared'" in vault
    assert "`managers.vault.provider: file`" in vault
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "base04-data").exists()


def test_role_that_is_switched_off_is_refused_where_a_manager_makes_up_for_it_alone(tmp_path: Path) -> None:
    off = {"provider": "none"}
    managers = dict.fromkeys(("redis", "rate_limiter", "jwt", "websocket", "api_key"), off)
    (tmp_path / "base04.yaml").write_text(json.dumps({"server": {"workers": 3}, "managers": managers}))
    answer = run_base04("serve", "--port", "0", cwd=tmp_path)
    assert answer.returncode == 1
    assert "3 workers cannot serve as one host" in answer.stderr
    assert "redis: it is switched off by managers.redis.provider: none, and without it state" in answer.stderr


def test_one_worker_is_a_host_as_always(tmp_path: Path, serve: Serve) -> None:
    """The option takes the place of the setting, and one process may have its Redis in memory."""
    server = serve(tmp_path, settings="server: {workers: 1}")
    with server.admin() as client:
        assert "workers" not in client.get("/health").json()
    assert server.stop() == 0


def test_worker_that_cannot_start_ends_the_host_with_its_reason(tmp_path: Path, redis: RedisServer) -> None:
    broken = settings(redis, database={"sqlite": {"path": "/proc/nowhere/base04.sqlite3"}})
    (tmp_path / "base04.yaml").write_text(json.dumps(broken))
    answer = run_base04("serve", "--port", "0", cwd=tmp_path)
    assert answer.returncode == 1
    assert "base04: No worker can start. Worker 1: The manager database" in answer.stderr
    assert "/proc/nowhere/base04.sqlite3" in answer.stderr
    assert answer.stdout == ""
    assert "Traceback" not in answer.stderr


# Serving


def test_greeting_comes_once_and_so_does_the_first_key(host: Server) -> None:
    assert host.admin_key
    with host.admin() as client:
        assert len(client.get("/api-keys").json()["api_keys"]) == 1
    assert host.stop() == 0
    lines = host.stdout.text.splitlines()
    assert [line.split()[0] for line in lines] == ["Base04", "managers", "plugins", "admin"]


def test_health_shows_every_worker(host: Server) -> None:
    with host.admin() as client:
        found = client.get("/health").json()
    assert [item["worker"] for item in found["workers"]] == [1, 2]
    assert len({item["pid"] for item in found["workers"]} - {host.pid}) == 2
    assert {(item["status"], item["revision"]) for item in found["workers"]} == {("serving", 1)}
    shown = run_base04("health", cwd=host.folder)
    assert shown.returncode == 0
    assert all(str(item["pid"]) in shown.stdout for item in found["workers"])
    status, body = fresh(host, "GET", "/health")
    assert (status, list(json.loads(body))) == (200, ["status"])


def test_each_log_line_says_which_worker(host: Server) -> None:
    assert run_base04("reload", cwd=host.folder).returncode == 0
    assert host.stop() == 0
    lines = [json.loads(line) for line in host.stderr.text.splitlines()]
    changed = [line for line in lines if line["event"] == "the host has changed"]
    assert sorted(line["worker"] for line in changed) == [1, 2]
    assert len({line["pid"] for line in changed}) == 2
    assert all("worker" in line and "pid" in line for line in lines)


def test_commands_are_answered_by_any_worker(host: Server) -> None:
    made = run_base04("keys", "create", "--user", "ada", cwd=host.folder)
    assert made.returncode == 0, made.stderr
    assert fresh(host, "GET", "/actions", **{"x-api-key": made.stdout.strip()})[0] == 200
    assert "ada" in run_base04("keys", "list", cwd=host.folder).stdout


def test_second_host_in_the_folder_is_told_who_holds_it(host: Server) -> None:
    answer = run_base04("serve", "--port", "0", cwd=host.folder)
    assert answer.returncode == 1
    assert f"process {host.pid}, which serves {host.url}" in answer.stderr


def test_port_of_another_host_is_refused_though_workers_share_theirs(host: Server, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "base04.yaml").write_text((host.folder / "base04.yaml").read_text())
    answer = run_base04("serve", "--port", str(host.address[1]), cwd=other)
    assert answer.returncode == 1
    assert f"Cannot listen on 127.0.0.1:{host.address[1]}" in answer.stderr


def test_connections_are_spread_among_the_workers(host: Server) -> None:
    for _ in range(60):
        assert fresh(host, "GET", "/health/live")[0] == 200
    with host.admin() as client:
        text = client.get("/metrics").text
    assert all(count(text, "base04_http_request_duration_seconds_count", worker=number) > 0 for number in ("1", "2"))


def test_nothing_is_left_open(serve: Serve, tmp_path: Path, redis: RedisServer) -> None:
    server = serve(tmp_path / "host", settings=json.dumps(settings(redis)), PYTHONDEVMODE="1")
    assert server.url
    found, sockets = pids(server), own_sockets(server)
    assert [stat.S_IMODE(path.stat().st_mode) for path in sockets] == [0o600, 0o600]
    assert server.stop() == 0
    assert all(map(is_gone, found))
    assert not sockets[0].parent.exists()
    assert not server.socket_path.exists()
    assert (server.folder / "base04-data" / "host.lock").read_text() == ""


# Metrics


def count(text: str, name: str, **labels: str) -> float:
    """Add up what a metric says for all workers."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    lines = [line for line in text.splitlines() if line.startswith(f"{name}{{") and all(w in line for w in wanted)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def test_metrics_of_any_worker_are_those_of_the_host(host: Server) -> None:
    for _ in range(60):
        assert fresh(host, "GET", "/health/live")[0] == 200
    for _ in range(4):
        status, body = fresh(host, "GET", "/metrics", **{"x-api-key": host.admin_key})
        text = body.decode()
        assert status == 200
        assert count(text, "base04_http_request_duration_seconds_count", route="health") == 60
        assert count(text, "base04_worker_up") == 2
        assert text.count("# TYPE base04_http_request_duration_seconds histogram") == 1


def test_scrape_does_without_a_worker_that_is_stuck(host: Server) -> None:
    stuck = pids(host)[1]
    kill(stuck, signal.SIGSTOP)
    try:
        with host.admin() as client:
            text = client.get("/metrics").text
        assert 'base04_worker_up{worker="1"} 1.0' in text
        assert 'base04_worker_up{worker="2"} 0.0' in text
    finally:
        kill(stuck, signal.SIGCONT)
