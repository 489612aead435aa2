"""What a host that is traced owns: providers of OpenTelemetry, and what its generations are built with."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import structlog
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased

from base04.errors import HostError
from base04.http.stack import Frame
from base04.lifecycle import Watch
from base04.pipeline import Pipeline
from base04.settings import TelemetrySettings
from base04.telemetry.action_spans import TracedPipeline
from base04.telemetry.delivery import Delivery, LogForwarder, SpanForwarder, quieten
from base04.telemetry.http_spans import TracedFrame
from base04.telemetry.log_export import LogExport
from base04.telemetry.log_sinks import add_sink, remove_sink
from base04.telemetry.manager_spans import ManagerSpans
from base04.telemetry.plugin_tracers import lend, take_back

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from base04.actions.injection import ManagerLookup
    from base04.app_manager import AppManager

_SCOPE: Final = "base04"

_log = structlog.get_logger()


class Telemetry:
    """Sends traces and logs while a host runs.

    What it sends waits in bounded queues, for threads of their own: a collector that is away, slow, or refuses costs
    what it does not take, and nothing else. What comes when a queue is full is dropped.
    """

    def __init__(self, settings: TelemetrySettings) -> None:
        self._settings = settings
        self.deliveries = [
            Delivery(signal)
            for signal, wanted in (("traces", settings.traces), ("logs", settings.logs))
            if wanted and os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip().lower() != "none"
        ]
        resource = _resource(settings.service_name)
        self._spans = TracerProvider(_sampler(settings.sample_ratio), resource, shutdown_on_exit=False)
        self._logs = LoggerProvider(resource, shutdown_on_exit=False)
        self._log_export = LogExport(self._logs.get_logger(_SCOPE, version("base04")))
        self._exporters: list[SpanForwarder | LogForwarder] = []
        self._tracer = self._spans.get_tracer(_SCOPE, version("base04"))
        self._traced = any(delivery.signal == "traces" for delivery in self.deliveries)
        self.watch: Watch | None = ManagerSpans(self._tracer).watch if self._traced else None

    def pipeline(self, managers: ManagerLookup, **options: Any) -> Pipeline:
        """Make a pipeline that traces actions, a plain one where there are to be no traces."""
        return (
            TracedPipeline(managers, tracer=self._tracer, **options) if self._traced else Pipeline(managers, **options)
        )

    def frame(self, app: ASGIApp, manager: AppManager) -> Frame:
        """Make the outermost layer, which traces requests; a plain one likewise."""
        if not self._traced:
            return Frame(app, manager)
        settings = self._settings
        return TracedFrame(
            app, manager, tracer=self._tracer, exclude=settings.exclude, trusting=settings.trust_traceparent
        )

    def start(self) -> None:
        """Begin to send; plugins that ask OpenTelemetry for a tracer get one that sends too.

        Raises:
            HostError: the variables ``OTEL_*`` cannot be used.
        """
        quieten()
        try:
            self._begin()
        except (ValueError, RuntimeError, ImportError, OSError) as error:
            raise HostError(
                f"Telemetry cannot be sent as the settings and the variables OTEL_* say: {error}."
            ) from error

    def _begin(self) -> None:
        for delivery in self.deliveries:
            endpoint, headers = self._target(delivery.signal)
            if delivery.signal == "traces":
                spans = SpanForwarder(OTLPSpanExporter(endpoint, headers=headers), delivery)
                self._spans.add_span_processor(BatchSpanProcessor(spans))
                self._exporters.append(spans)
                lend(self._spans)
            else:
                logs = LogForwarder(OTLPLogExporter(endpoint, headers=headers), delivery)
                self._logs.add_log_record_processor(BatchLogRecordProcessor(logs))
                self._exporters.append(logs)
                add_sink(self._log_export)

    def _target(self, signal: str) -> tuple[str | None, dict[str, str] | None]:
        base = self._settings.endpoint
        headers = {name: value.get_secret_value() for name, value in self._settings.headers.items()}
        return None if base is None else f"{base}/v1/{signal}", headers or None

    def flush(self) -> None:
        """Deliver what waits now. It blocks, for as long as the exporters may try."""
        self._spans.force_flush()
        self._logs.force_flush()

    async def stop(self) -> None:
        """Deliver what waits, for ``flush_timeout`` at most; the rest is dropped."""
        if not self._exporters:
            return
        take_back(self._spans)
        if any(delivery.signal == "logs" for delivery in self.deliveries):
            remove_sink(self._log_export)
        steps = (self._spans.shutdown, self._logs.shutdown)
        done = [_in_a_thread(step) for step in steps]
        try:
            async with asyncio.timeout(self._settings.flush_timeout):
                await asyncio.gather(*done)
        except TimeoutError:
            for exporter in self._exporters:  # so that they try no longer; their threads end by themselves
                exporter.shutdown()
            _log.warning("telemetry was not delivered in time, and the rest is dropped")
        self._exporters.clear()


def _sampler(ratio: float | None) -> Sampler | None:
    """Return what decides which traces are recorded, None to leave that to ``OTEL_TRACES_SAMPLER``."""
    return None if ratio is None else ParentBased(TraceIdRatioBased(ratio))


def _resource(service_name: str | None) -> Resource:
    own: dict[str, str | int] = {"base04.version": version("base04"), "process.pid": os.getpid()}
    if "service.instance.id" not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        own["service.instance.id"] = uuid.uuid4().hex  # several workers are one service
    found = Resource.create(own)
    if service_name is None and str(found.attributes[SERVICE_NAME]).startswith("unknown_service"):
        service_name = "base04"
    return found if service_name is None else found.merge(Resource({SERVICE_NAME: service_name}))


def _in_a_thread(step: Callable[[], None]) -> asyncio.Future[None]:
    """Take a step in a thread that nothing waits for when the process ends, unlike those of the loop."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def settle() -> None:
        if not future.done():
            future.set_result(None)

    def run() -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - the host stops, whatever becomes of its telemetry; it is reported
            _log.warning("telemetry did not stop cleanly", error=repr(error))
        try:
            loop.call_soon_threadsafe(settle)
        except RuntimeError:  # the loop is closed: nobody waits any longer
            return

    threading.Thread(target=run, name="base04-telemetry", daemon=True).start()
    return future
