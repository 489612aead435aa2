"""One folder, one host: what is kept, what is printed, who may look."""

from __future__ import annotations

import json
import signal
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serve_kit import Server, run_base04

Serve = Callable[..., Server]


def test_first_start_greets_and_shows_one_admin_key_that_works(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    with server.admin() as client:
        answer = client.get("/managers")
    assert answer.status_code == 200
    assert len(answer.json()["managers"]) == 13
    assert server.stop() == 0
    lines = server.stdout.text.splitlines()
    assert 3 <= len(lines) <= 5
    assert lines[0] == f"Base04 serves {server.url}"
    assert "redis=memory" in lines[1]
    assert "database=sqlite" in lines[1]
    assert str(tmp_path / "base04-data") in lines[2]
    assert server.stdout.text.count("b04_") == 1
    assert server.admin_key not in server.stderr.text


def test_second_start_shows_no_key_and_the_first_one_still_works(serve: Serve, tmp_path: Path) -> None:
    first = serve()
    key = first.admin_key
    assert first.stop() == 0
    made = run_base04("keys", "create", "--user", "ada", "--permission", "host.read", cwd=tmp_path).stdout.strip()
    second = serve()
    with second.client(key) as admin, second.client(made) as ada:
        assert admin.get("/api-keys").status_code == 200
        assert ada.get("/managers").status_code == 200
        assert ada.get("/api-keys").status_code == 403
    assert second.stop() == 0
    assert "b04_" not in second.stdout.text


def test_second_host_in_the_folder_is_refused_with_pid_and_url(serve: Serve, tmp_path: Path) -> None:
    first = serve()
    first.admin_key  # noqa: B018 - waits until it is up
    for arguments in (["--port", "0"], ["--port", str(first.address[1])]):
        refused = run_base04("serve", *arguments, cwd=tmp_path)
        assert refused.returncode == 1
        assert str(first.pid) in refused.stderr
        assert first.url in refused.stderr
        assert "Traceback" not in refused.stderr
    with first.client() as client:
        assert client.get("/health/live").status_code == 200


def test_host_starts_again_after_it_was_killed(serve: Serve, tmp_path: Path) -> None:
    first = serve()
    key = first.admin_key
    first.signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert first.socket_path.exists()
    listed = run_base04("keys", "list", "--json", cwd=tmp_path)
    assert [item["name"] for item in json.loads(listed.stdout)["api_keys"]] == ["bootstrap"]
    second = serve()
    with second.client(key) as client:
        assert client.get("/managers").status_code == 200
    assert run_base04("health", cwd=tmp_path).returncode == 0
    assert second.stop() == 0


def test_port_in_use_is_a_clear_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = run_base04("serve", "--port", port, cwd=tmp_path)
    assert refused.returncode == 1
    assert f"Cannot listen on 127.0.0.1:{port}: Address already in use. Choose another with --port" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_address_that_is_not_ours_is_a_clear_error(tmp_path: Path) -> None:
    for host in ("192.0.2.1", "no.such.host.invalid"):
        refused = run_base04("serve", "--host", host, "--port", "0", cwd=tmp_path)
        assert refused.returncode == 1
        assert f"Cannot listen on {host}:0" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_only_the_owner_can_open_what_is_kept(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    server.admin_key  # noqa: B018 - waits until it is up
    data = tmp_path / "base04-data"
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert stat.S_ISSOCK(server.socket_path.stat().st_mode)
    open_to_others = [
        (path.name, oct(stat.S_IMODE(path.stat().st_mode)))
        for path in data.rglob("*")
        if stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    assert open_to_others == []
    assert server.stop() == 0
    assert not server.socket_path.exists()


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="b04-") as folder:
        yield Path(folder)


def test_folder_with_a_long_path_has_its_socket_elsewhere(serve: Serve, tmp_path: Path, short: Path) -> None:
    folder = tmp_path / ("long" * 30)
    server = serve(folder, TMPDIR=str(short))
    server.admin_key  # noqa: B018 - waits until it is up
    listed = run_base04("keys", "list", "--json", cwd=folder, TMPDIR=str(short))
    assert [item["name"] for item in json.loads(listed.stdout)["api_keys"]] == ["bootstrap"]
    (elsewhere,) = short.glob("base04-*")
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o700
    assert server.stop() == 0
    assert not elsewhere.exists()
    elsewhere.mkdir(mode=0o755)  # somebody else was first
    refused = run_base04("serve", "--port", "0", cwd=folder, TMPDIR=str(short))
    assert refused.returncode == 1
    assert "is not private to this user" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_folders_that_are_all_too_long_for_a_socket_are_a_clear_error(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    refused = run_base04("serve", "--port", "0", cwd=folder, TMPDIR=str(folder))
    assert refused.returncode == 1
    assert "Use a data_dir with a shorter path" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_keys_are_managed_beside_the_running_host(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    server.admin_key  # noqa: B018 - waits until it is up
    made = run_base04(
        "keys", "create", "--user", "ada", "--permission", "host.read", "--expires-in", "30d", "--json", cwd=tmp_path
    )
    created = json.loads(made.stdout)
    assert created["user_id"] == "ada"
    assert created["expires_at"] > created["created_at"]
    with server.client(created["api_key"]) as client:
        assert client.get("/managers").status_code == 200
        listed = json.loads(run_base04("keys", "list", "--user", "ada", "--json", cwd=tmp_path).stdout)
        assert [item["key_id"] for item in listed["api_keys"]] == [created["key_id"]]
        assert created["api_key"] not in json.dumps(listed)
        revoked = run_base04("keys", "revoke", created["key_id"], cwd=tmp_path)
        assert revoked.returncode == 0
        assert client.get("/managers").status_code == 401
    again = run_base04("keys", "revoke", created["key_id"], cwd=tmp_path)
    assert again.returncode == 1
    assert created["key_id"] in again.stderr
    refused = run_base04("keys", "create", "--user", "ada", "--rate-limit", "often", cwd=tmp_path)
    assert refused.returncode == 1
    assert "'often'" in refused.stderr
    assert server.stop() == 0


def test_keys_are_managed_without_a_host(tmp_path: Path) -> None:
    made = run_base04("keys", "create", "--user", "ada", cwd=tmp_path)
    assert made.returncode == 0
    key = made.stdout.strip()
    assert key.startswith("b04_")
    (found,) = json.loads(run_base04("keys", "list", "--json", cwd=tmp_path).stdout)["api_keys"]
    revoked = json.loads(run_base04("keys", "revoke", found["key_id"], "--json", cwd=tmp_path).stdout)
    assert revoked == {"revoked": found["key_id"]}
    assert json.loads(run_base04("keys", "list", "--json", cwd=tmp_path).stdout) == {"api_keys": []}
    kept = json.loads(run_base04("keys", "list", "--revoked", "--json", cwd=tmp_path).stdout)["api_keys"]
    assert [item["key_id"] for item in kept] == [found["key_id"]]
