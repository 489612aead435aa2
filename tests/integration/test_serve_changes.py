"""A host that changes while real clients use it: nobody notices but those who ask."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx

from serve_kit import PATIENCE_S, Server, install, run_base04, write

Serve = Callable[..., Server]

LIMITER = """
from base04_builtin.rate_limiter.gcra import GcraRateLimiterManager
from base04_hookspecs import Provider, hookimpl


class OtherLimiter(GcraRateLimiterManager):
    pass


@hookimpl
def rate_limiter_providers():
    yield Provider("other", OtherLimiter)
"""

LIMITS = "ip: 1000000/minute, api_key: 1000000/minute, user: %d/minute"
HEAD = f"server: {{drain_timeout: 20s}}\nmanagers: {{rate_limiter: {{limits: {{{LIMITS}}}}}}}\n"


class Load:
    """Clients that ask for what needs a key, over and over, until they are told to stop."""

    def __init__(self, server: Server, clients: int = 2) -> None:
        self._url, self._key = server.url, server.admin_key
        self._stop = threading.Event()
        self.statuses: list[int] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, headers={"x-api-key": self._key}, timeout=PATIENCE_S) as client:
            while not self._stop.is_set():
                self.statuses.append(client.get("/graph").status_code)


def provider_of(server: Server, role: str) -> str:
    with server.admin() as client:
        answer = client.get("/managers")
        assert answer.status_code == 200, answer.text
        managers = answer.json()["managers"]
    return str(next(item["provider"] for item in managers if item["manager"] == role))


def test_provider_is_swapped_and_settings_are_read_anew_under_load(serve: Serve, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install(site, "other-limiter", plugins={"other-limiter": "other_limiter"}, files={"other_limiter.py": LIMITER})
    server = serve(tmp_path / "host", settings=HEAD % 1_000_000, site=site)
    assert provider_of(server, "rate_limiter") == "other"
    refused = run_base04("modules", "disable", "other-limiter", cwd=server.folder, site=site)
    assert (refused.returncode, "--swap" in refused.stderr) == (1, True)
    with Load(server) as load:
        done = run_base04("modules", "disable", "other-limiter", "--swap", cwd=server.folder, site=site)
        assert (done.returncode, done.stdout) == (0, "other-limiter is switched off.\n"), done.stderr
        assert provider_of(server, "rate_limiter") == "gcra"
        for number in range(3):
            write(server.folder / "base04.yaml", HEAD % (2_000_000 + number))
            report = run_base04("reload", "--json", cwd=server.folder, site=site)
            assert json.loads(report.stdout)["renewed"] == ["rate_limiter"], report.stderr
        assert "provider" not in run_base04("reload", cwd=server.folder, site=site).stdout
        done = run_base04("modules", "enable", "other-limiter", cwd=server.folder, site=site)
        assert done.returncode == 0, done.stderr
        assert provider_of(server, "rate_limiter") == "other"
    assert load.statuses
    assert set(load.statuses) == {200}
    assert server.stop() == 0


def test_reload_tells_who_provides_what_from_then_on(serve: Serve, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install(site, "other-limiter", plugins={"other-limiter": "other_limiter"}, files={"other_limiter.py": LIMITER})
    server = serve(tmp_path / "host", settings="plugins: {deny: [other-limiter]}\n", site=site)
    assert provider_of(server, "rate_limiter") == "gcra"
    write(server.folder / "base04.yaml", "server: {port: 0}\n")
    told = run_base04("reload", cwd=server.folder, site=site).stdout
    assert "provider of rate_limiter: builtin-rate-limiter:gcra -> other-limiter:other\n" in told
    again = run_base04("modules", "reload", "other-limiter", cwd=server.folder, site=site).stdout
    assert again.startswith("other-limiter was read anew.\n")
    assert server.stop() == 0


def test_reload_has_read_action_files_when_it_returns(serve: Serve, tmp_path: Path) -> None:
    unwatched = "managers: {action_discovery: {folders: [actions], watch: false}}\n"
    pack = "pack: say\nversion: 1.0.0\nactions:\n  word: {{handler: '.say:word', access: public, summary: {}}}\n"
    write(tmp_path / "host" / "actions" / "say.py", "def word(): return 'hello'\n")
    server = serve(tmp_path / "host", settings=unwatched)
    with server.client() as client:
        for summary in ("Old", "New"):
            write(server.folder / "actions" / "say.yaml", pack.format(summary))
            assert run_base04("reload", cwd=server.folder).returncode == 0
            assert client.post("/actions/say.word").json() == "hello"
            assert client.get("/actions/say.word").json()["summary"] == summary
    assert server.stop() == 0


def test_signal_has_the_host_read_its_settings_anew(serve: Serve, tmp_path: Path) -> None:
    server = serve(tmp_path / "host", settings=HEAD % 1000)
    assert server.url
    write(server.folder / "base04.yaml", HEAD % 7)
    server.signal(signal.SIGHUP)
    assert server.stderr.wait_for("the host has changed")
    with server.admin() as client:
        assert "q=7" in client.get("/graph").headers["ratelimit-policy"]
    write(server.folder / "base04.yaml", "managers: {rate_limiter: {provider: gcar}}\n")
    server.signal(signal.SIGHUP)
    assert server.stderr.wait_for("the host was not reloaded")
    with server.admin() as client:
        assert client.get("/health/ready").status_code == 200
    assert server.stop() == 0


def test_reload_without_a_host_says_so(tmp_path: Path) -> None:
    done = run_base04("reload", cwd=tmp_path)
    assert (done.returncode, "No host runs" in done.stderr) == (3, True)
    assert run_base04("modules", "disable", "nobody", cwd=tmp_path).returncode == 1
    assert run_base04("modules", "show", "builtin-redis", cwd=tmp_path).stdout.startswith("builtin-redis: enabled")
