"""A host that tells a collector what it does: whole traces, logs that belong to them, and no secret in either."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets

from base04.testing.servers.redis import RedisServer
from otlp_kit import Collector, Span
from serve_kit import Server, run_base04, write
from websocket_kit import NativeClient
from workers_kit import redis, wait_until
from workers_kit import settings as workers_settings

Serve = Callable[..., Server]
__all__ = ["redis"]

SETTINGS = """
    managers: {action_discovery: {folders: [actions]}}
    plugins: {paths: [plugins]}
    telemetry: {service_name: shop, headers: {authorization: "${env:COLLECTOR_KEY}"}}
"""
PACK = """
    pack: shop
    version: 1.0.0
    actions:
      order: {handler: .handlers:order, access: public, parameters: {card: {type: string}}}
      pay: {handler: .handlers:pay, access: public, parameters: {card: {type: string}}}
      again:
        handler: .handlers:again
        access: public
        idempotent: true
        retry: {attempts: 3, delay: 1ms, when: [failed]}
      refuse: {handler: .handlers:refuse, access: public}
      plain: {handler: .handlers:plain, access: public}
      private: {handler: .handlers:plain}
      elsewhere:
        handler: .handlers:elsewhere
        access: public
        parameters: {url: {type: string}}
        required: [url]
"""
HANDLERS = """
    import logging

    from opentelemetry import trace

    from base04.client import AsyncActionsClient
    from base04_hookspecs.action_discovery import ActionContext
    from base04_hookspecs.errors import NotFound
    from base04_hookspecs.blocking import RedisManager

    tracer = trace.get_tracer("shop")
    tries = []


    async def order(context: ActionContext, card: str = "") -> str:
        return await context.run("shop.pay", {"card": card})


    def pay(redis: RedisManager, card: str = "") -> str:
        logging.getLogger("library").warning("paid in a thread")
        with tracer.start_as_current_span("count the money"):
            redis.set("paid", card)
        return "paid"


    async def again() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise LookupError("hunter2 again")
        return len(tries)


    async def refuse() -> None:
        raise NotFound("There is no hunter2.")


    async def plain() -> int:
        return 1


    async def elsewhere(url: str) -> int:
        async with AsyncActionsClient(url) as client:
            return await client.run("shop.plain")
"""
KEY = "Bearer collector-key-of-hunter"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "actions/shop.yaml", PACK)
    write(tmp_path / "actions/handlers.py", HANDLERS)
    (tmp_path / "plugins").mkdir()
    return tmp_path


def environment(url: str, **variables: str) -> dict[str, Any]:
    """Return what a host is started with: where the collector is, and how soon batches are sent."""
    soon = {"OTEL_BSP_SCHEDULE_DELAY": "20", "OTEL_BLRP_SCHEDULE_DELAY": "20"}
    return {"BASE04_TELEMETRY__ENDPOINT": url, "COLLECTOR_KEY": KEY, **soon, **variables}


def stopped(server: Server) -> str:
    """Stop a host, and return what it logged."""
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    return server.stderr.wait_for_end()


def test_trace_goes_from_the_request_to_the_managers(serve: Serve, folder: Path, collector: Collector) -> None:
    server = serve(settings=SETTINGS, **environment(collector.url))
    with server.admin() as client:
        answer = client.post(
            "/actions/shop.order?token=hunter2", json={"card": "hunter2"}, headers={"x-request-id": "r1"}
        )
        assert answer.json() == "paid"
    root = collector.span("POST /actions/{name}")
    assert (root.kind, root.parent_id, root.status) == ("server", "", "unset")
    assert root.resource["service.name"] == "shop"
    asked = {
        "http.request.method": "POST",
        "http.route": "/actions/{name}",
        "url.path": "/actions/shop.order",
        "http.response.status_code": 200,
        "base04.request_id": "r1",
        "base04.action": "shop.order",
        "user.id": "admin",
    }
    assert asked.items() <= root.attributes.items()
    tree = collector.tree(root.trace_id)["POST /actions/{name}"]
    pay: dict[str, Any] = {"handler shop.pay": {"count the money": {"redis.set": {}}}}
    assert tree["action shop.order"] == {"handler shop.order": {"action shop.pay": pay}}
    assert "api_key.validate_api_key" in tree
    nested = collector.span("action shop.pay")
    assert (nested.attributes["base04.source"], nested.attributes["base04.outcome"]) == ("action", "succeeded")
    call = collector.span("redis.set")
    assert (call.attributes["base04.manager.role"], call.attributes["base04.manager.provider"]) == ("redis", "memory")
    record = collector.record("paid in a thread")
    assert (record.trace_id, record.span_id) == (root.trace_id, collector.span("handler shop.pay").span_id)
    assert record.attributes["request_id"] == "r1"
    assert {headers["authorization"] for headers in collector.headers} == {KEY}
    stopped(server)
    assert not any(b"hunter2" in body for body in collector.bodies)
    assert not any(KEY.encode() in body for body in collector.bodies)


def test_trace_that_is_brought_goes_on(serve: Serve, folder: Path, collector: Collector) -> None:
    server = serve(settings=SETTINGS, **environment(collector.url))
    with server.client() as client:
        client.post("/actions/shop.plain", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
        client.post("/actions/shop.pay", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
        client.post("/actions/shop.pay", json={"card": "x"}, headers={"traceparent": "00-nonsense"})
    root = collector.span("POST /actions/{name}", **{"base04.action": "shop.plain"})
    assert (root.trace_id, root.parent_id) == (TRACE, PARENT)
    other = collector.span("POST /actions/{name}", **{"base04.action": "shop.pay"})
    assert other.trace_id != TRACE, "the one that was not sampled is not here"
    stopped(server)
    assert {span.name for span in collector.spans if span.trace_id == TRACE} == {
        "POST /actions/{name}",
        "action shop.plain",
        "handler shop.plain",
    } | {span.name for span in collector.spans if span.name.startswith("rate_limiter.")}


def test_execution_in_the_background_is_a_part_of_the_trace(serve: Serve, folder: Path, collector: Collector) -> None:
    server = serve(settings=SETTINGS, **environment(collector.url))
    with server.admin() as client:
        answer = client.post("/actions/shop.pay", headers={"prefer": "respond-async", "x-request-id": "r1"})
        assert answer.status_code == 202
        run = collector.span("action shop.pay")
        root = collector.span("POST /actions/{name}")
    assert (run.kind, run.trace_id, run.attributes["base04.request_id"]) == ("consumer", root.trace_id, "r1")
    assert run.attributes["base04.outcome"] == "succeeded"
    assert collector.record("paid in a thread").trace_id == root.trace_id
    stopped(server)


async def test_action_of_a_socket_is_a_part_of_the_trace_of_its_handshake(
    serve: Serve, folder: Path, collector: Collector
) -> None:
    server = serve(settings=SETTINGS, **environment(collector.url))
    with server.admin() as client:
        key = client.post("/api-keys", json={"user_id": "ada", "permissions": ["*"]}).json()["api_key"]
        token = client.post("/auth/token", headers={"x-api-key": key}).json()["access_token"]
    address = server.url.replace("http://", "ws://") + "/ws"
    brought = {"Authorization": f"Bearer {token}", "traceparent": f"00-{TRACE}-{PARENT}-01"}
    for headers in (brought, {"Authorization": f"Bearer {token}"}):
        async with websockets.connect(address, additional_headers=headers, proxy=None) as connection:
            native = await NativeClient(connection).greeted()
            assert (await native.call("shop.pay", {"card": "x"})) == "paid"
    stopped(server)
    runs = [span for span in collector.spans if span.name == "action shop.pay"]
    assert [(span.attributes["base04.source"], span.attributes["user.id"]) for span in runs] == [
        ("websocket", "ada")
    ] * 2
    assert (runs[0].trace_id, runs[0].parent_id) == (TRACE, PARENT)
    assert runs[1].trace_id != TRACE
    assert runs[1].parent_id == ""
    assert "redis.set" in {span.name for span in collector.spans if span.trace_id == runs[1].trace_id}


def test_workers_are_one_service(serve: Serve, folder: Path, collector: Collector, redis: RedisServer) -> None:
    shared = workers_settings(redis)
    shared["managers"]["action_discovery"] = {"folders": ["actions"]}
    write(folder / "base04.yaml", json.dumps(shared))
    server = serve(**environment(collector.url))

    def both_have_told() -> bool:
        with server.client() as client:  # each has a connection of its own, which any worker may take
            assert client.post("/actions/shop.plain").status_code == 200
        return len({span.resource["service.instance.id"] for span in collector.spans}) == 2

    wait_until(both_have_told, "both workers trace")
    log = stopped(server)
    runs = [span for span in collector.spans if span.name == "action shop.plain"]
    assert {span.resource["service.name"] for span in runs} == {"base04"}
    assert len({span.resource["process.pid"] for span in runs}) == 2
    assert "Traceback" not in log


def test_workers_are_not_started_without_the_libraries(folder: Path, redis: RedisServer) -> None:
    write(folder / "site/opentelemetry/__init__.py", "")
    write(folder / "base04.yaml", json.dumps(workers_settings(redis)))
    done = run_base04("serve", "--port", "0", cwd=folder, site=folder / "site", **environment("http://127.0.0.1:9"))
    assert done.returncode == 1
    assert "pip install 'base04[otel]'" in done.stderr


def test_client_hands_the_trace_on(serve: Serve, folder: Path, collector: Collector) -> None:
    server = serve(settings=SETTINGS, **environment(collector.url))
    with server.client() as client:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "shop=1"}
        assert client.post("/actions/shop.elsewhere", json={"url": server.url}, headers=headers).json() == 1
    handler = collector.span("handler shop.elsewhere")
    called = collector.span("POST /actions/{name}", **{"base04.action": "shop.plain"})
    assert (called.trace_id, called.parent_id) == (TRACE, handler.span_id)
    assert called.state == "shop=1"
    stopped(server)


def test_errors_are_recorded_by_their_types_alone(serve: Serve, folder: Path, collector: Collector) -> None:
    server = serve(settings=SETTINGS, **environment(collector.url, BASE04_TELEMETRY__LOGS="false"))
    with server.client() as client:
        assert client.post("/actions/shop.again").json() == 3
        assert client.post("/actions/shop.refuse").status_code == 404
        assert client.post("/actions/shop.private").status_code == 401
        assert client.post("/actions/shop.none").status_code == 404
        assert client.post("/actions/shop.pay", json={"card": 1}).status_code == 422
        assert client.get("/actions/shop.pay").status_code == 200
        assert client.get("/health").status_code == 200
        assert client.request("BREW", "/actions").status_code == 400
    stopped(server)
    tries = [span for span in collector.spans if span.name == "handler shop.again"]
    assert [(span.attributes["base04.attempt"], span.status) for span in tries] == [
        (1, "error"),
        (2, "error"),
        (3, "unset"),
    ]
    assert tries[0].attributes["error.type"] == "LookupError"
    event = tries[0].events["exception"]
    assert event["exception.type"] == "LookupError"
    assert "handlers.py" in event["exception.stacktrace"]
    refused = collector.span("action shop.refuse")
    assert (refused.status, refused.attributes["base04.outcome"]) == ("unset", "refused")
    statuses = sorted(span.attributes["http.response.status_code"] for span in servers(collector))
    assert statuses == [200, 200, 401, 404, 404, 422], "the unknown method did not get beyond the server"
    assert collector.span("GET /actions/{name}").attributes["http.route"] == "/actions/{name}"
    assert not any("health" in span.attributes["url.path"] for span in servers(collector))
    assert not any(b"hunter2 again" in body or b"There is no" in body for body in collector.bodies)
    assert not collector.records


def servers(collector: Collector) -> list[Span]:
    """Return the spans of requests."""
    return [span for span in collector.spans if span.kind == "server"]


def test_nothing_is_recorded_at_a_ratio_of_0_but_logs_have_their_traces(
    serve: Serve, folder: Path, collector: Collector
) -> None:
    server = serve(settings=SETTINGS, **environment(collector.url, BASE04_TELEMETRY__SAMPLE_RATIO="0"))
    with server.client() as client:
        assert client.post("/actions/shop.pay", json={"card": "x"}).status_code == 200
    record = collector.record("paid in a thread")
    assert len(record.trace_id) == 32
    stopped(server)
    assert collector.spans == []


def test_command_line_ends_though_the_collector_hangs(folder: Path, collector: Collector) -> None:
    collector.open.clear()
    write(folder / "base04.yaml", SETTINGS)
    flush = {"BASE04_TELEMETRY__FLUSH_TIMEOUT": "100ms"}
    done = run_base04("actions", "run", "shop.plain", cwd=folder, **environment(collector.url, **flush))
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert "telemetry was not delivered in time" in done.stderr


def test_command_line_traces_its_action(folder: Path, collector: Collector) -> None:
    write(folder / "base04.yaml", SETTINGS)
    done = run_base04("actions", "run", "shop.plain", cwd=folder, **environment(collector.url))
    assert done.returncode == 0, done.stderr
    assert collector.span("action shop.plain").attributes["user.id"] == "local"


@pytest.mark.parametrize("fault", ["refuses", "hangs", "away"])
def test_collector_that_fails_changes_nothing_but_what_is_told(
    serve: Serve, folder: Path, collector: Collector, fault: str
) -> None:
    url = collector.url
    if fault == "refuses":
        collector.answer = 400
    elif fault == "hangs":
        collector.open.clear()
    else:
        url = "http://127.0.0.1:9"
    variables = {"OTEL_BSP_MAX_QUEUE_SIZE": "10", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "5"}
    flush = {"BASE04_TELEMETRY__FLUSH_TIMEOUT": "200ms", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    server = serve(settings=SETTINGS, **environment(url, **variables, **flush))
    with server.client() as client:
        for _ in range(50):
            assert client.post("/actions/shop.plain").status_code == 200
        if fault == "hangs":
            assert collector.asked.wait(30)
        else:
            assert server.stderr.wait_for("telemetry cannot be delivered")
        assert client.post("/actions/shop.plain").status_code == 200
    log = stopped(server)
    assert log.count("telemetry cannot be delivered") <= 2, "once for each signal"
    assert ("telemetry was not delivered in time" in log) is (fault != "refuses")
    assert "Traceback" not in log
    assert KEY not in log


def test_collector_that_comes_back_is_told_of(serve: Serve, folder: Path, collector: Collector) -> None:
    collector.answer = 400
    server = serve(settings=SETTINGS, **environment(collector.url))
    with server.client() as client:
        client.post("/actions/shop.plain")
        assert server.stderr.wait_for('"signal": "traces", "event": "telemetry cannot be delivered')
        collector.answer = 200
        client.post("/actions/shop.plain")
        assert server.stderr.wait_for('"signal": "traces", "lost": ')
    stopped(server)


def test_what_is_missing_is_told_with_the_command(folder: Path) -> None:
    hidden = write(folder / "site/opentelemetry/sdk/__init__.py", "raise ModuleNotFoundError('hidden')")
    write(hidden.parent.parent / "__init__.py", "")
    write(folder / "base04.yaml", SETTINGS)
    done = run_base04("actions", "list", cwd=folder, site=folder / "site", **environment("http://127.0.0.1:9"))
    assert done.returncode == 1
    assert "pip install 'base04[otel]'" in done.stderr
