"""A change that one worker is asked for is made by all, or by none."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from base04.cli.session import ask_over_socket
from base04.errors import HostError
from base04.testing.servers.redis import RedisServer
from serve_kit import PATIENCE_S, Server, install, run_base04
from workers_kit import GENEROUS, all_serve, fresh, kill, own_sockets, pids, redis, settings, wait_until, workers_of

Serve = Callable[..., Server]
__all__ = ["redis"]

BELL = """
import os
import signal
from pathlib import Path

from starlette.responses import PlainTextResponse
from starlette.routing import Route
from base04_hookspecs import hookimpl

@hookimpl
def routes():
    if Path(f"die-{{os.getpid()}}").exists():
        os.kill(os.getpid(), signal.SIGKILL)

    async def ring(request):
        return PlainTextResponse("{name}")

    return [Route("/{name}", ring)]
"""

MOODY = '''
import asyncio
import os
from pathlib import Path
from typing import ClassVar

from base04_hookspecs import Manager, Provider, health_report, hookimpl


class Moody(Manager):
    """Starts as files in the working directory tell the process."""

    role: ClassVar[str] = "moody"

    async def start(self):
        if Path(f"fail-{os.getpid()}").exists():
            raise RuntimeError("not in this process")
        if Path("only").exists() and Path("only").read_text() != str(os.getpid()):
            raise RuntimeError("only in one process")
        while Path("wait").exists():
            Path("waiting").touch()
            await asyncio.sleep(0.01)

    async def health_check(self):
        return health_report()


@hookimpl
def extra_providers():
    yield Provider("moody", Moody, role="moody")
'''


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    for name in ("ding", "dong"):
        install(
            folder, f"acme-{name}", plugins={name: f"acme_{name}"}, files={f"acme_{name}.py": BELL.format(name=name)}
        )
    install(folder, "acme-moody", plugins={"moody": "acme_moody"}, files={"acme_moody.py": MOODY})
    return folder


@pytest.fixture
def host(serve: Serve, tmp_path: Path, redis: RedisServer, site: Path) -> Server:
    """A host with three workers that serve."""
    server = serve(tmp_path / "host", settings=json.dumps(settings(redis, 3)), site=site)
    assert server.url
    return server


def asked(server: Server, worker: int, method: str, path: str) -> tuple[int, Any]:
    """Ask one worker over its own socket: the first, second or third in the order of their starts."""
    return ask_over_socket(str(own_sockets(server)[worker - 1]), method, path)


def rings(server: Server, name: str) -> list[int]:
    """Return what every worker answers to a bell."""
    return [ask_over_socket(str(path), "GET", f"/{name}")[0] for path in own_sockets(server)]


def changes_to_come(server: Server) -> list[Any]:
    """Return what each worker finds different in the settings from what it serves."""
    answers = [ask_over_socket(str(path), "POST", "/reload?dry_run=true")[1] for path in own_sockets(server)]
    return [answer["settings"] for answer in answers]


def rewrite(server: Server, redis: RedisServer, **managers: Any) -> None:
    (server.folder / "base04.yaml").write_text(json.dumps(settings(redis, 3, **managers)))


STRICT = {"limits": {**GENEROUS["limits"], "user": "77/hour"}}


def test_disabled_plugin_is_gone_from_all_workers_when_the_answer_comes(host: Server) -> None:
    with host.admin() as client:
        assert rings(host, "ding") == [200, 200, 200]
        for revision, (step, status) in enumerate((("disable", 404), ("enable", 200), ("disable", 404)), start=2):
            answer = client.post(f"/modules/ding/{step}").json()
            assert answer["changed"] is True
            assert answer["revision"] == revision
            assert [(item["status"], item["revision"]) for item in answer["workers"]] == [("serving", revision)] * 3
            assert rings(host, "ding") == [status] * 3
            assert {fresh(host, "GET", "/ding")[0] for _ in range(20)} == {status}
        assert client.post("/modules/ding/disable").json()["changed"] is False
        assert client.get("/health").json()["revision"] == 4
    assert json.loads((host.folder / "base04-data" / "modules.json").read_text()) == {"disabled": ["ding"]}
    assert host.stop() == 0


@pytest.mark.parametrize("how", ["command", "signal"])
def test_new_settings_reach_all_workers(host: Server, redis: RedisServer, how: str) -> None:
    rewrite(host, redis, rate_limiter=STRICT)
    if how == "command":
        answer = run_base04("reload", cwd=host.folder)
        assert (answer.returncode, "renewed: rate_limiter" in answer.stdout) == (0, True), answer
        assert "does not serve" not in answer.stdout
    else:
        host.signal(signal.SIGHUP)
        wait_until(lambda: {item["revision"] for item in workers_of(host)} == {2}, "they have not followed")
    for _ in range(12):
        assert '"user";q=77;w=3600' in fresh_limit(host)
    assert changes_to_come(host) == [[], [], []]
    assert host.stop() == 0


def fresh_limit(host: Server) -> str:
    with host.admin() as client:
        return str(client.get("/managers", headers={"connection": "close"}).headers["ratelimit-policy"])


def test_faulty_file_changes_nothing_not_even_for_a_worker_that_starts_later(host: Server) -> None:
    (host.folder / "base04.yaml").write_text("managers: {rate_limitter: {}}")
    answer = run_base04("reload", "--data-dir", "base04-data", cwd=host.folder)
    with host.admin() as client:
        refused = client.post("/reload")
        assert refused.status_code == 409
        assert "rate_limitter" in refused.json()["detail"]
    host.signal(signal.SIGHUP)
    assert host.stderr.wait_for("the host was not reloaded") is not None
    killed = pids_by_socket(host)[0]
    kill(killed, signal.SIGKILL)
    wait_until(lambda: serving_but(host, killed) == 3, "the killed worker has no successor")
    assert rings(host, "ding") == [200] * 3
    with host.admin() as client:
        assert {item["revision"] for item in client.get("/health").json()["workers"]} == {1}
    assert answer.returncode != 0
    assert host.stop() == 0


def pids_by_socket(host: Server) -> list[int]:
    """Return the workers' processes, without a command: those read the settings, which are at fault."""
    with host.admin() as client:
        return [item["pid"] for item in client.get("/health").json()["workers"]]


def serving_but(host: Server, pid: int) -> int:
    with host.admin() as client:
        found = client.get("/health").json()["workers"]
    return sum(item["status"] == "serving" and item["pid"] != pid for item in found)


def test_change_to_what_workers_cannot_share_is_refused(host: Server, redis: RedisServer) -> None:
    alone = settings(redis, 3)
    alone["managers"]["redis"] = {"provider": "memory"}
    (host.folder / "base04.yaml").write_text(json.dumps(alone))
    answer = run_base04("reload", cwd=host.folder)
    assert answer.returncode == 1
    assert "the provider memory" in answer.stderr
    assert "managers.redis.provider: server" in answer.stderr
    assert {item["revision"] for item in workers_of(host)} == {1}


def test_changes_asked_of_all_workers_at_once_end_in_one_state(host: Server) -> None:
    def switch(number: int) -> int:
        name, step = ("ding", "dong")[number % 2], ("disable", "enable")[number // 2 % 2]
        return asked(host, number % 3 + 1, "POST", f"/modules/{name}/{step}")[0]

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(switch, range(24))) == {200}
    found = workers_of(host)
    assert len({item["revision"] for item in found}) == 1
    disabled = json.loads((host.folder / "base04-data" / "modules.json").read_text())["disabled"]
    for name in ("ding", "dong"):
        assert rings(host, name) == [404 if name in disabled else 200] * 3
    assert host.stop() == 0


def test_worker_that_cannot_follow_is_replaced_by_one_that_starts_with_the_change(host: Server) -> None:
    failing = pids(host)[1]
    (host.folder / f"fail-{failing}").touch()
    status, answer = asked(host, 1, "POST", "/modules/moody/reload")
    assert (status, answer["revision"]) == (200, 2)
    assert [(item["status"], item["revision"]) for item in answer["workers"]] == [("serving", 2)] * 3
    assert failing not in [item["pid"] for item in answer["workers"]]
    assert host.stderr.wait_for("a worker did not follow a change and is replaced") is not None
    assert host.stop() == 0


def test_refusal_of_the_worker_that_is_asked_changes_nothing_anywhere(host: Server) -> None:
    (host.folder / f"fail-{pids(host)[0]}").touch()
    status, answer = asked(host, 1, "POST", "/modules/moody/reload")
    assert status == 409
    assert "not in this process" in answer["detail"]
    assert {item["revision"] for item in workers_of(host)} == {1}


def test_worker_that_starts_while_a_change_is_made_ends_with_it(host: Server) -> None:
    killed = pids(host)[2]
    (host.folder / "wait").touch()
    kill(killed, signal.SIGKILL)
    wait_until((host.folder / "waiting").exists, "no successor starts")
    answers: list[tuple[int, Any]] = []
    change = threading.Thread(target=lambda: answers.append(asked(host, 1, "POST", "/modules/ding/disable")))
    change.start()
    wait_until(lambda: fresh(host, "GET", "/ding")[0] == 404, "nobody has changed")
    (host.folder / "wait").unlink()
    change.join(PATIENCE_S)
    ((status, answer),) = answers
    assert (status, answer["revision"]) == (200, 2)
    assert [(item["status"], item["revision"]) for item in answer["workers"]] == [("serving", 2)] * 3
    assert rings(host, "ding") == [404] * 3
    assert host.stop() == 0


def test_worker_that_dies_while_it_changes_takes_the_change_with_it(host: Server) -> None:
    choices = host.folder / "base04-data" / "modules.json"
    assert asked(host, 2, "POST", "/modules/ding/disable")[0] == 200
    dying = pids(host)[0]
    (host.folder / f"die-{dying}").touch()
    with pytest.raises(HostError, match="does not answer"):
        asked(host, 1, "POST", "/modules/ding/enable")
    wait_until(all_serve(host, 3, but=dying), "it has no successor")
    assert {item["revision"] for item in workers_of(host)} == {2}
    assert rings(host, "ding") == [404] * 3
    assert json.loads(choices.read_text()) == {"disabled": ["ding"]}
    assert asked(host, 1, "POST", "/modules/dong/disable")[0] == 200  # the turn is free again
    assert rings(host, "dong") == [404] * 3
    assert json.loads(choices.read_text()) == {"disabled": ["ding", "dong"]}
    assert host.stop() == 0


def test_answer_says_who_does_not_serve_a_change(host: Server) -> None:
    """Here only one process can: no successor of the others starts."""
    only = host.folder / "only"
    only.write_text(str(pids(host)[0]))
    status, answer = asked(host, 1, "POST", "/modules/moody/reload")
    assert (status, answer["changed"], answer["revision"]) == (200, True, 2)
    one, *others = answer["workers"]
    assert (one["status"], one["revision"]) == ("serving", 2)
    assert all(item["status"] != "serving" for item in others)
    with host.admin() as client:
        assert client.get("/health").json()["status"] == "degraded"
        assert client.get("/health/ready").status_code == 200
    only.unlink()
    wait_until(all_serve(host, 3), "the others do not come back")
    assert {item["revision"] for item in workers_of(host)} == {2}
    assert host.stop() == 0
