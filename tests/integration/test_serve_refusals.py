"""Hosts that cannot start as they are told to, and what they say instead."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from serve_kit import Server, install, run_base04, write

Serve = Callable[..., Server]

LIMITER = """
from base04_hookspecs import Provider, hookimpl

@hookimpl
def rate_limiter_providers():
    yield Provider("quick", "nowhere.at_all:Limiter")
"""

CYCLE = """
from typing import ClassVar
from base04_hookspecs import Manager, Provider, health_report, hookimpl

class Plain(Manager):
    async def health_check(self):
        return health_report()

class Egg(Plain):
    role: ClassVar[str] = "egg"
    def __init__(self, laid_by: "Hen"): ...

class Hen(Plain):
    role: ClassVar[str] = "hen"
    def __init__(self, hatched_from: Egg): ...

@hookimpl
def extra_providers():
    yield Provider("own", Egg, role="egg")
    yield Provider("own", Hen, role="hen")
"""

FAILING = """
from typing import ClassVar
from base04_hookspecs import Manager, Provider, health_report, hookimpl
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.errors import ManagerUnavailable

class Remote(Manager):
    role: ClassVar[str] = "remote"
    def __init__(self, database: DatabaseManager): ...
    async def start(self):
        raise ManagerUnavailable("remote.example refuses connections")
    async def health_check(self):
        return health_report()

@hookimpl
def extra_providers():
    yield Provider("own", Remote, role="remote")
"""


def refused(tmp_path: Path, *, settings: str = "", site: Path | None = None) -> str:
    """Try to serve, which must fail in words, and return them."""
    if settings:
        write(tmp_path / "base04.yaml", settings)
    done = run_base04("serve", "--port", "0", cwd=tmp_path, site=site)
    assert done.returncode == 1, done.stdout
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    told = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    return "\n".join(told)


def test_two_candidates_for_a_role_are_both_named_with_the_line_to_write(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for name in ("swift", "rapid"):
        module = f"acme_{name}"
        install(site, f"acme-{name}", plugins={name: module}, files={f"{module}.py": LIMITER})
    told = refused(tmp_path, site=site)
    assert "quick of plugin rapid (acme-rapid 1.0)" in told
    assert "quick of plugin swift (acme-swift 1.0)" in told
    assert "managers: {rate_limiter: {provider: 'rapid:quick'}}" in told


def test_cycle_is_told_as_a_whole_with_the_parameter_that_closes_it(tmp_path: Path) -> None:
    install(tmp_path / "site", "acme-cycle", plugins={"cycle": "acme_cycle"}, files={"acme_cycle.py": CYCLE})
    told = refused(tmp_path, site=tmp_path / "site")
    for part in ("egg", "hen", "laid_by", "hatched_from", "cycle"):
        assert part in told


def test_provider_that_cannot_be_imported_is_named_with_its_plugin(tmp_path: Path) -> None:
    install(tmp_path / "site", "acme-swift", plugins={"swift": "acme_swift"}, files={"acme_swift.py": LIMITER})
    told = refused(tmp_path, site=tmp_path / "site")
    assert "swift" in told
    assert "nowhere" in told


def test_backend_that_is_not_there_in_time_is_named(tmp_path: Path) -> None:
    install(tmp_path / "site", "acme-far", plugins={"far": "acme_far"}, files={"acme_far.py": FAILING})
    told = refused(tmp_path, site=tmp_path / "site", settings="managers: {remote: {start_timeout: 200ms}}\n")
    assert "The manager remote" in told
    assert "acme-far 1.0" in told
    assert "remote.example refuses connections" in told
    assert run_base04("health", cwd=tmp_path).returncode == 3


def test_backend_that_is_not_required_may_stay_down(serve: Serve, tmp_path: Path) -> None:
    install(tmp_path / "site", "acme-far", plugins={"far": "acme_far"}, files={"acme_far.py": FAILING})
    settings = "managers: {remote: {start_timeout: 200ms, required: false}}\n"
    server = serve(settings=settings, site=tmp_path / "site")
    with server.admin() as client:
        found = client.get("/health")
        assert (found.status_code, found.json()["status"]) == (200, "degraded")
        assert "remote.example" in found.json()["managers"]["remote"]["details"]
        managers = {item["manager"]: item for item in client.get("/managers").json()["managers"]}
        assert managers["remote"]["status"] == "down"
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ("server: [", ["base04.yaml:1:10", "expected"]),
        ("- a\n- b\n", ["base04.yaml", "mapping"]),
        ("server: {port: many}\n", ["base04.yaml:1:10: server.port"]),
        ("server: {drain_timeout: soon}\n", ["server.drain_timeout", "'soon' is not a duration"]),
        (
            "managers:\n  database:\n    sqlite: {pth: x}\n",
            ["base04.yaml:3:14: managers.database.sqlite.pth", "'path'"],
        ),
        ("managers: {redis: {provider: none}}\n", ["redis", "none"]),
        ("managers: {nothing: {}}\n", ["nothing"]),
        ("server: {host: '${env:NO_SUCH_NAME}'}\n", ["server.host", "NO_SUCH_NAME"]),
        ("server: {host: '${secret:a#b}'}\n", ["base04.yaml:1:10: server", "vault"]),
    ],
)
def test_settings_that_cannot_be_are_told_with_their_place(tmp_path: Path, settings: str, parts: list[str]) -> None:
    told = refused(tmp_path, settings=settings)
    for part in parts:
        assert part in told, told


def test_action_whose_handler_is_missing_is_told_with_file_and_line(serve: Serve, tmp_path: Path) -> None:
    pack = """\
        pack: half
        version: 1.0.0
        actions:
          here: {summary: Here, handler: ".handlers:here", access: public}
          gone: {summary: Gone, handler: ".handlers:gone", access: public}
    """
    write(tmp_path / "actions" / "half.yaml", pack)
    write(tmp_path / "actions" / "handlers.py", "def here():\n    return 1\n")
    server = serve(settings="managers: {action_discovery: {folders: [actions]}}\n")
    line = server.stderr.wait_for("action file has a fault")
    assert line is not None
    fault = json.loads(line)
    assert fault["file"].endswith("half.yaml")
    assert fault["line"] == 5
    assert "gone" in fault["message"]
    with server.admin() as client:
        assert client.get("/health").json()["managers"]["action_discovery"]["status"] == "degraded"
        assert client.get("/health/ready").status_code == 200
    assert server.stop() == 0
