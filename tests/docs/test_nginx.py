"""The configuration of nginx that the pages show, in front of real hosts."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import pytest
from websockets.sync.client import connect

from docs_kit import EXAMPLES
from serve_kit import PATIENCE_S, Server

PROXY = EXAMPLES / "proxy"
TRUSTING = "server: {trusted_proxies: [127.0.0.1]}\n"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def nginx(folder: Path, configuration: str) -> Iterator[None]:
    """Run nginx with what stands within ``http``, in a folder of its own, until the block ends."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("There is no nginx: run 'apt-get install nginx-light'")
    folder.mkdir()
    paths = " ".join(
        f"{name}_temp_path {folder / name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    written = folder / "nginx.conf"
    written.write_text(
        f"daemon off; master_process off; pid {folder / 'pid'}; error_log stderr;\n"
        f"events {{ }}\nhttp {{ access_log off; {paths}\n{configuration}\n}}\n"
    )
    begun: list[str | Path] = [program, "-e", "stderr", "-p", folder, "-c", written]
    checked = subprocess.run([*begun, "-t"], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert checked.returncode == 0, checked.stderr
    with subprocess.Popen(begun, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def ask(url: str, path: str, **headers: str) -> httpx.Response:
    """Ask through the proxy, which may not listen yet."""
    transport = httpx.HTTPTransport(retries=10)
    with httpx.Client(base_url=url, headers=headers, transport=transport, timeout=PATIENCE_S) as client:
        return client.get(path)


def test_requests_and_sockets_pass_through_nginx(tmp_path: Path) -> None:
    with Server(tmp_path / "host", settings=TRUSTING) as server:
        port = free_port()
        written = (PROXY / "base04.conf").read_text(encoding="utf-8")
        here = written.replace("listen 80;", f"listen 127.0.0.1:{port};")
        here = here.replace("127.0.0.1:8000", server.url.removeprefix("http://"))
        assert here.count(str(port)) == 1
        with nginx(tmp_path / "nginx", here), server.admin() as admin:
            assert ask(f"http://127.0.0.1:{port}", "/health/ready").json() == {"status": "ready"}
            token = admin.post("/auth/token").json()["access_token"]
            bearer = {"authorization": f"Bearer {token}"}
            with connect(f"ws://127.0.0.1:{port}/ws", additional_headers=bearer, proxy=None) as wire:
                assert '"auth_ok"' in str(wire.recv(timeout=PATIENCE_S))
            ask(f"http://127.0.0.1:{port}", "/managers", **{"x-forwarded-for": "192.0.2.1"})
            denied = admin.get("/audit", params={"event": "auth.denied"}).json()["events"]
            assert {event["client_ip"] for event in denied} == {"127.0.0.1"}


def test_requests_are_spread_over_processes(tmp_path: Path) -> None:
    with Server(tmp_path / "one") as one, Server(tmp_path / "two") as two:
        port, names = free_port(), {"8001": one, "8002": two}
        upstream = (PROXY / "upstream.conf").read_text(encoding="utf-8")
        for written, server in names.items():
            assert f"127.0.0.1:{written};" in upstream
            upstream = upstream.replace(f"127.0.0.1:{written}", server.url.removeprefix("http://"))
        place = "proxy_pass http://base04;"
        through = f"{upstream}\nserver {{ listen 127.0.0.1:{port}; location / {{ {place} }} }}"
        with nginx(tmp_path / "nginx", through):
            url, key = f"http://127.0.0.1:{port}", one.admin_key
            known = [ask(url, "/managers", **{"x-api-key": key}).status_code for _ in range(4)]
            assert sorted(known) == [200, 200, 401, 401]
