"""What the host counts, and what Prometheus reads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2 as httpx
import pytest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

import otlp_kit
from base04.app_manager import AppManager
from base04.metrics.counts import OTHERS, Counts
from base04.metrics.exposition import exposition
from base04_hookspecs import hookimpl
from host_kit import until

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

PACK = """
pack: p
version: 1.0.0
actions:
  good: {handler: .handlers:good, access: public}
  bad: {handler: .handlers:bad, access: public}
  scarce: {handler: .handlers:good, access: public, rate_limit: 1/hour}
"""


class Tide(Collector):
    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily("tide_metres", "How high the water is.", 1.5)


class Broken(Collector):
    def collect(self) -> Iterable[Metric]:
        raise LookupError("no water")


class Harbour:
    @hookimpl
    def metrics(self) -> list[Collector]:
        return [Broken(), Tide()]


@asynccontextmanager
async def client_of(
    tmp_path: Path, telemetry: Any = None, **server: Any
) -> AsyncIterator[tuple[AppManager, httpx.AsyncClient]]:
    folder = tmp_path / "actions"
    folder.mkdir()
    (folder / "pack.yaml").write_text(PACK)
    (folder / "handlers.py").write_text("def good():\n    return 1\n\n\ndef bad():\n    raise LookupError('x')\n")
    settings = {
        "data_dir": str(tmp_path / "data"),
        "plugins": {"autoload": False},
        "server": server,
        "telemetry": telemetry or {},
        "managers": {"action_discovery": {"folders": [str(folder)]}},
    }
    async with AppManager(settings, plugins=[("harbour", Harbour())]) as app:
        transport = httpx.ASGITransport(app.serve)
        async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
            yield app, client


def samples(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_requests_actions_managers_and_plugins_are_counted(tmp_path: Path) -> None:
    async with client_of(tmp_path, public_metrics=True) as (app, client):
        await until(lambda: app.health.latest is not None)
        for _ in range(3):
            assert (await client.post("/actions/p.good", json={})).status_code == 200
        assert (await client.post("/actions/p.bad", json={})).status_code == 500
        assert (await client.get("/made/up/by/somebody")).status_code == 404
        answer = await client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        found = samples(answer.text)

    def value(name: str, **labels: str) -> float:
        return found[name, tuple(sorted(labels.items()))]

    counted = "base04_http_request_duration_seconds_count"
    assert value(counted, route="actions", method="POST", status="200") == 3
    assert value(counted, route="actions", method="POST", status="500") == 1
    assert value(counted, route="other", method="GET", status="404") == 1
    assert value("base04_action_duration_seconds_count", action="p.good", outcome="succeeded") == 3
    assert value("base04_action_duration_seconds_count", action="p.bad", outcome="failed") == 1
    bucket = "base04_action_duration_seconds_bucket"
    assert value(bucket, action="p.good", outcome="succeeded", le="+Inf") == 3
    assert value("base04_manager_health", manager="redis", provider="memory") == 1
    assert value("base04_manager", manager="database", metric="errors") == 0
    assert value("base04_plugins", status="enabled") >= 13
    assert value("base04_generation") >= 1
    assert value("process_open_fds") > 0
    assert value("tide_metres") == 1.5, "beside a collector that fails"


async def test_executions_limits_and_threads_are_counted(tmp_path: Path) -> None:
    async with client_of(tmp_path, public_metrics=True) as (app, client):
        for action, status in (("good", "succeeded"), ("bad", "failed")):
            answer = await client.post(f"/actions/p.{action}", headers={"prefer": "respond-async"})
            ended = await app.executions.ended(answer.json()["id"], 30.0)
            assert ended is not None
            assert ended["status"] == status
        assert [(await client.post("/actions/p.scarce")).status_code for _ in range(3)] == [200, 429, 429]
        await until(lambda: not app.executions.live)
        found = samples((await client.get("/metrics")).text)
    for action, outcome in (("p.good", "succeeded"), ("p.bad", "failed")):
        assert found["base04_execution_duration_seconds_count", (("action", action), ("outcome", outcome))] == 1
        assert found["base04_execution_wait_duration_seconds_count", (("action", action),)] == 1
    assert found["base04_rate_limited_total", (("level", "action"),)] == 2
    assert found["base04_threads", (("status", "running"),)] == 0
    assert found["base04_threads", (("status", "waiting"),)] == 0
    assert not any(name.startswith("base04_telemetry") for name, _ in found)


async def test_what_was_delivered_is_counted(tmp_path: Path) -> None:
    with otlp_kit.Collector() as collector:
        async with client_of(tmp_path, public_metrics=True, telemetry={"endpoint": collector.url}) as (app, client):
            assert (await client.post("/actions/p.good")).status_code == 200
            assert app.telemetry is not None
            await asyncio.to_thread(app.telemetry.flush)
            found = samples((await client.get("/metrics")).text)
    labels = (("result", "delivered"), ("signal", "traces"))
    assert found["base04_telemetry_items_total", labels] == len(collector.spans) > 0


async def test_metrics_need_a_permission_unless_settings_say_otherwise(tmp_path: Path) -> None:
    async with client_of(tmp_path) as (app, client):
        assert (await client.get("/metrics")).status_code == 401
        keys = {
            permission: await app.api_key_manager.generate_api_key("prometheus", [permission])
            for permission in ("metrics.read", "host.read")
        }
        assert (await client.get("/metrics", headers={"x-api-key": keys["host.read"]})).status_code == 403
        assert (await client.get("/metrics", headers={"x-api-key": keys["metrics.read"]})).status_code == 200


@pytest.mark.parametrize("number", [4_999, 20_000])
def test_names_that_clients_make_up_take_bounded_room(number: int) -> None:
    counts = Counts()
    for index in range(number):
        counts.ran(f"a{index}", "failed", 0.1)
        counts.answered("other", f"M{index}", 405, 20.0)
    assert len(counts.actions) == min(number, 5_001)
    assert sum(found.total for found in counts.actions.values()) == number
    if number > 5_000:
        assert counts.actions[OTHERS, "failed"].total == number - 5_000
    assert counts.requests.keys() == {("other", OTHERS, 405)}, "no client makes a label up"
    assert counts.requests["other", OTHERS, 405].buckets[-1] == number


class Hanging(Collector):
    def __init__(self) -> None:
        self.asked = 0
        self.release = threading.Event()

    def collect(self) -> Iterable[Metric]:
        self.asked += 1
        self.release.wait()
        yield GaugeMetricFamily("late_metres", "How high the water is at last.", 2.5)


async def test_collector_that_hangs_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("base04.metrics.plugin_collectors.PATIENCE_S", 0.05)
    hanging = Hanging()

    @hookimpl
    def metrics() -> list[Collector]:
        return [hanging, Tide()]

    settings = {"data_dir": str(tmp_path / "data"), "plugins": {"autoload": False}}
    async with AppManager(settings, plugins=[("harbour", SimpleNamespace(metrics=metrics))]) as app:
        for _ in range(40):  # more than there are threads for what blocks
            text = await asyncio.to_thread(exposition, app, app.generation)
            assert b"tide_metres 1.5" in text
            assert b"late_metres" not in text
        assert hanging.asked == 1
        [module] = [item for item in app.list_plugins() if item["name"] == "harbour"]
        assert [fault["part"] for fault in module["faults"]] == ["metrics Hanging"]
        assert "did not answer within 0.05 s" in module["faults"][0]["reason"]
        hanging.release.set()
        await until(
            lambda: not any(thread.is_alive() for thread in app.generation.contributions.stuck_collectors.values())
        )
        assert b"late_metres 2.5" in await asyncio.to_thread(exposition, app, app.generation)
