"""Finding the slow plugin: `base04 serve --trace-hooks`, and what shows it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_kit import Server, install, run_base04

PLUGIN = """
from prometheus_client.core import GaugeMetricFamily
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from base04_hookspecs import hookimpl


class Visitors:
    def collect(self):
        yield GaugeMetricFamily("acme_visitors", "Who is here.", 2)


async def hello(request):
    return PlainTextResponse("hello")


async def before(call):
    call.values["seen"] = True


async def say(word):
    return word


@hookimpl
def routes():
    return [Route("/acme", hello)]


@hookimpl
def metrics():
    return [Visitors()]


@hookimpl
def before_action():
    return [before]


@hookimpl
def action_packs():
    parameters = {"word": {"type": "string"}}
    action = {"handler": say, "access": "public", "parameters": parameters, "required": ["word"]}
    return [{"pack": "acme", "version": "1.0.0", "actions": {"say": action}}]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    install(folder, "acme", plugins={"acme": "acme_traced"}, files={"acme_traced.py": PLUGIN})
    return folder


@pytest.fixture(scope="module", params=["option", "setting"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, site: Path) -> Iterator[Server]:
    how = {"options": ["--trace-hooks"]} if request.param == "option" else {"settings": "plugins: {trace_hooks: true}"}
    with Server(tmp_path_factory.mktemp("traced"), site=site, **how) as running:
        yield running


def test_timings_are_shown_where_one_looks_for_them(server: Server, site: Path) -> None:
    with server.client() as client:
        for _ in range(3):
            assert client.get("/acme").text == "hello"
            assert client.post("/actions/acme.say", json={"word": "hi"}).json() == "hi"
    with server.admin() as admin:
        assert "acme_visitors 2.0" in admin.get("/metrics").text
        timings = {(item["hook"], item["stage"]): item for item in admin.get("/modules/acme").json()["timings"]}
        text = admin.get("/metrics").text
    assert timings["routes", "call"]["count"] == timings["before_action", "call"]["count"] == 3
    assert timings["routes", "collect"]["count"] == 1
    assert 'base04_hook_seconds_count{hook="routes",plugin="acme",stage="call"} 3.0' in text
    assert 'base04_hook_longest_seconds{hook="metrics",plugin="acme",stage="call"}' in text
    shown = run_base04("plugins", "--timings", cwd=server.folder, site=site)
    assert shown.returncode == 0
    assert "longest ms" in shown.stdout
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert ["acme", "before_action", "call", "3"] in [row[:4] for row in rows]
    listed = json.loads(run_base04("plugins", "acme", "--timings", "--json", cwd=server.folder, site=site).stdout)
    assert {item["plugin"] for item in listed["timings"]} == {"acme"}
    assert [item["total"] for item in listed["timings"]] == sorted(
        (i["total"] for i in listed["timings"]), reverse=True
    )
    assert "before_action called 3 times" in run_base04("plugins", "acme", cwd=server.folder, site=site).stdout


def test_tracing_goes_on_after_a_reload(server: Server) -> None:
    with server.admin() as admin:
        before = {(i["hook"], i["stage"]): i["count"] for i in admin.get("/modules/acme").json()["timings"]}
        assert admin.post("/reload").status_code == 200
        after = {(i["hook"], i["stage"]): i["count"] for i in admin.get("/modules/acme").json()["timings"]}
    assert after["routes", "collect"] == before["routes", "collect"] + 1


def test_command_says_that_nothing_is_traced(tmp_path: Path, site: Path) -> None:
    alone = run_base04("plugins", "--timings", cwd=tmp_path, site=site)
    assert (alone.returncode, "No host runs" in alone.stderr) == (3, True)
    with Server(tmp_path, site=site) as server:
        assert server.url
        quiet = run_base04("plugins", "--timings", cwd=tmp_path, site=site)
        assert (quiet.returncode, "base04 serve --trace-hooks" in quiet.stderr) == (1, True)
        assert server.stop() == 0
