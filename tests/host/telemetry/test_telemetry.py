"""What settings, variables, and the program around a host decide about its telemetry."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from opentelemetry import trace
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from base04.app_manager import AppManager
from base04.errors import HostError, SettingsError
from base04.settings import load_settings
from base04_hookspecs import hookimpl
from otlp_kit import Collector

tracer = trace.get_tracer("test")


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


class Breaking:
    """Middleware that fails where it is asked to."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/break":
            raise LookupError("the reason")
        await self._app(scope, receive, send)


class Plugin:
    @hookimpl
    def middleware(self) -> list[Middleware]:
        return [Middleware(Breaking)]

    @hookimpl
    def routes(self) -> list[Route]:
        return [Route("/items/{id}", lambda request: PlainTextResponse("item"))]


@asynccontextmanager
async def client_of(tmp_path: Path, **telemetry: Any) -> AsyncIterator[httpx.AsyncClient]:
    settings = {"data_dir": str(tmp_path / "data"), "plugins": {"autoload": False}, "telemetry": telemetry}
    async with AppManager(settings, plugins=[("plugin", Plugin())]) as app:
        transport = httpx.ASGITransport(app.serve, root_path="/below")
        async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
            yield client


async def test_requests_are_parts_of_the_trace_around_the_host(tmp_path: Path, collector: Collector) -> None:
    async with client_of(tmp_path, endpoint=collector.url, logs=False) as client:
        with tracer.start_as_current_span("program") as program:
            brought = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
            assert (await client.get("/below/items/1", headers=brought)).text == "item"
    place = program.get_span_context()
    served = collector.span("GET /items/{id}")
    assert (served.trace_id, served.parent_id) == (f"{place.trace_id:032x}", f"{place.span_id:016x}")
    assert served.attributes["url.path"] == "/below/items/1"
    assert served.attributes["user_agent.original"].startswith("python-httpx")


async def test_traceparent_of_strangers_decides_nothing(tmp_path: Path, collector: Collector) -> None:
    sent = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "a=b"}
    strict = {"endpoint": collector.url, "logs": False, "trust_traceparent": False}
    async with client_of(tmp_path, **strict, sample_ratio=0.0) as client:
        await client.get("/items/1", headers=sent)
    assert collector.spans == []
    async with client_of(tmp_path, **strict) as client:
        await client.get("/items/1", headers=sent)
        await client.get("/items/2", headers={"traceparent": "00-nonsense"})
    first, second = (span for span in collector.spans if span.kind == "server")
    assert (first.parent_id, first.state, first.links) == ("", "", ("4bf92f3577b34da6a3ce929d0e0e4736",))
    assert first.trace_id not in first.links
    assert second.links == ()


async def test_request_that_fails_is_an_error_without_its_message(tmp_path: Path, collector: Collector) -> None:
    async with client_of(tmp_path, endpoint=collector.url, logs=False) as client:
        assert (await client.get("/break")).status_code == 500
        assert (await client.get("/nothing")).status_code == 404
        assert (await client.get("/below/health/live")).status_code == 200
        assert (await client.request("MAKEUP", "/items/1")).status_code == 405
    found = {span.attributes["url.path"]: span for span in collector.spans if span.kind == "server"}
    broken = found["/break"]
    assert (broken.status, broken.attributes["error.type"], broken.name) == ("error", "500", "GET")
    assert (found["/nothing"].status, found["/nothing"].name) == ("unset", "GET")
    assert "/below/health/live" not in found
    made_up = found["/items/1"]
    assert made_up.attributes["http.request.method"] == "_OTHER"
    assert made_up.attributes["http.request.method_original"] == "MAKEUP"
    assert made_up.name.startswith("HTTP")
    assert not any(b"the reason" in body for body in collector.bodies)


async def test_variables_of_opentelemetry_fill_in_what_settings_leave_open(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"{collector.url}/")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=blue")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "warehouse")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.instance.id=a1")
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
    async with client_of(tmp_path) as client:
        await client.get("/items/1")
    assert not collector.asked.is_set(), "the variables alone switch nothing on"
    async with client_of(tmp_path, enabled=True) as client:
        await client.get("/items/1")
    resource = collector.span("GET /items/{id}").resource
    assert resource["service.name"] == "warehouse"
    assert (resource["deployment.environment.name"], resource["service.instance.id"]) == ("test", "a1")
    assert {headers["x-team"] for headers in collector.headers} == {"blue"}
    assert collector.records == []
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    seen = len(collector.spans)
    async with client_of(tmp_path, enabled=True) as client:
        await client.get("/items/1")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    async with client_of(tmp_path, enabled=True, sample_ratio=1.0) as client:
        await client.get("/items/1")
    assert len(collector.spans) == seen


async def test_variables_that_cannot_be_used_are_an_error_of_the_host(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1")
    with pytest.raises(HostError, match="OTEL_"):
        async with client_of(tmp_path, endpoint=collector.url):
            pass
    monkeypatch.delenv("OTEL_BSP_MAX_QUEUE_SIZE")
    async with client_of(tmp_path, endpoint=collector.url) as client:
        assert (await client.get("/items/1")).status_code == 200


@pytest.mark.parametrize("endpoint", ["collector:4318", "ftp://collector", "http://", "http://collector?key=hunter2"])
def test_endpoint_that_is_none_is_refused_without_being_shown(endpoint: str) -> None:
    with pytest.raises(SettingsError, match=r"telemetry\.endpoint") as refused:
        load_settings({"telemetry": {"endpoint": endpoint}}, environ={})
    assert "hunter2" not in str(refused.value)


async def test_change_of_telemetry_waits_for_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "base04.yaml"
    file.write_text(f"data_dir: {tmp_path / 'data'}\n")
    async with AppManager(file) as app:
        file.write_text(f"data_dir: {tmp_path / 'data'}\ntelemetry: {{sample_ratio: 0.5}}\n")
        report = await app.reload()
    assert report["restart_needed"] == ["telemetry.sample_ratio is read when the host starts: restart it."]


PROGRAM = """
    import asyncio
    import sys

    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    from base04.app_manager import AppManager

    own = TracerProvider()
    trace.set_tracer_provider(own)


    async def main():
        settings = {"data_dir": "data", "telemetry": {"endpoint": sys.argv[1]}}
        async with AppManager(settings):
            assert trace.get_tracer_provider() is own
        assert trace.get_tracer("mine").start_span("mine").is_recording()


    asyncio.run(main())
"""


def test_tracer_provider_of_a_program_stays(tmp_path: Path, collector: Collector) -> None:
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(PROGRAM), collector.url]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_host_that_is_not_traced_imports_nothing_of_it(tmp_path: Path) -> None:
    script = """
        import asyncio, sys
        from base04.app_manager import AppManager

        async def main():
            async with AppManager({"data_dir": "data"}):
                assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk")]
                assert "base04.telemetry.spans" not in sys.modules

        asyncio.run(main())
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
