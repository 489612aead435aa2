"""A collector of OpenTelemetry: OTLP over HTTP, on loopback, with what it was sent at hand."""

from __future__ import annotations

import contextlib
import gzip
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PATIENCE_S = 30.0

STATUS = {0: "unset", 1: "ok", 2: "error"}
KIND = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}


@dataclass(frozen=True)
class Span:
    """A span as it arrived."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    status: str
    attributes: dict[str, Any]
    events: dict[str, dict[str, Any]]
    scope: str
    began: int
    state: str
    links: tuple[str, ...]
    resource: dict[str, Any] = field(compare=False)


@dataclass(frozen=True)
class Record:
    """A log record as it arrived."""

    body: str
    severity: str
    trace_id: str
    span_id: str
    attributes: dict[str, Any]


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind else None


def _attributes(items: Any) -> dict[str, Any]:
    return {item.key: _plain(item.value) for item in items}


class Collector:
    """Takes what it is sent, unless ``answer`` is another status; hangs while ``open`` is cleared."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.records: list[Record] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.answer = 200
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Event()
        self._changed = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.asked.set()
                if not collector.open.wait(PATIENCE_S):
                    return
                if collector.answer == 200:
                    zipped = self.headers.get("content-encoding") == "gzip"
                    collector.take(self.path, dict(self.headers), gzip.decompress(body) if zipped else body)
                with contextlib.suppress(OSError):  # whoever asked may have gone
                    self.send_response(collector.answer)
                    self.send_header("content-length", "0")
                    self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        """Decode a request, and keep what is in it."""
        with self._changed:
            self.bodies.append(body)
            self.headers.append(headers)
            if path == "/v1/traces":
                self.spans += _spans(body)
            elif path == "/v1/logs":
                self.records += _records(body)
            self._changed.notify_all()

    def wait_for(self, wanted: Callable[[Sequence[Span], Sequence[Record]], bool]) -> None:
        """Wait until what has come is as wanted."""
        with self._changed:
            assert self._changed.wait_for(lambda: wanted(self.spans, self.records), PATIENCE_S), (
                sorted(span.name for span in self.spans),
                [record.body for record in self.records],
            )

    def span(self, name: str, **attributes: Any) -> Span:
        """Return the one span of a name, and with some attributes; waits for it."""

        def fits(span: Span) -> bool:
            return span.name == name and attributes.items() <= span.attributes.items()

        self.wait_for(lambda spans, _: any(map(fits, spans)))
        [found] = filter(fits, self.spans)
        return found

    def record(self, body: str) -> Record:
        """Return the first log record that says something; waits for it."""
        self.wait_for(lambda _, records: any(record.body == body for record in records))
        return next(record for record in self.records if record.body == body)

    def tree(self, trace_id: str) -> dict[str, Any]:
        """Return the spans of a trace by name, each with those below it, in the order in which they began."""
        found = sorted((span for span in self.spans if span.trace_id == trace_id), key=lambda span: span.began)
        known = {span.span_id for span in found}

        def below(parent: str) -> dict[str, Any]:
            return {span.name: below(span.span_id) for span in found if span.parent_id == parent}

        return {span.name: below(span.span_id) for span in found if span.parent_id not in known}

    def __enter__(self) -> Collector:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.open.set()
        self._server.shutdown()
        self._thread.join(PATIENCE_S)
        self._server.server_close()


def _spans(body: bytes) -> Iterator[Span]:
    for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield Span(
                    span.name,
                    KIND[span.kind],
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    STATUS[span.status.code],
                    _attributes(span.attributes),
                    {event.name: _attributes(event.attributes) for event in span.events},
                    of_scope.scope.name,
                    span.start_time_unix_nano,
                    span.trace_state,
                    tuple(link.trace_id.hex() for link in span.links),
                    _attributes(of_resource.resource.attributes),
                )


def _records(body: bytes) -> Iterator[Record]:
    for of_resource in ExportLogsServiceRequest.FromString(body).resource_logs:
        for of_scope in of_resource.scope_logs:
            for record in of_scope.log_records:
                yield Record(
                    _plain(record.body),
                    record.severity_text,
                    record.trace_id.hex(),
                    record.span_id.hex(),
                    _attributes(record.attributes),
                )
