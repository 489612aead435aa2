"""Handing batches to a collector, and what becomes of them; in the threads of the batch processors alone."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any, Final

import structlog
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

_log = structlog.get_logger()
_exporting: Final = threading.local()

_TALKATIVE: Final = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http._log_exporter",
    "urllib3.connectionpool",
)


class _OnceIsEnough(logging.Filter):
    """Leaves out what libraries log of every single attempt: ``Delivery`` says when it begins and when it ends."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(_exporting, "now", False)


_once_is_enough: Final = _OnceIsEnough()


def quieten() -> None:
    """Have the libraries keep quiet about what ``Delivery`` tells; safe to repeat."""
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_once_is_enough)


class Delivery:
    """How the batches of one signal (``traces``, ``logs``) fare."""

    def __init__(self, signal: str) -> None:
        self.signal = signal
        self.delivered = 0
        self.lost = 0
        self._failing = False

    def send(self, exporter: Any, batch: Sequence[Any], success: Any) -> Any:
        """Export a batch, count it, and log when the collector begins to refuse, and when it takes again."""
        _exporting.now = True
        try:
            result = exporter.export(batch)
        finally:
            _exporting.now = False
        if result is success:
            self.delivered += len(batch)
            if self._failing:
                _log.info("telemetry is delivered again", signal=self.signal, lost=self.lost)
        else:
            self.lost += len(batch)
            if not self._failing:
                _log.warning(
                    "telemetry cannot be delivered: the collector is away, slow, or refuses", signal=self.signal
                )
        self._failing = result is not success
        return result


class SpanForwarder(SpanExporter):
    """Exports spans, with their delivery noted."""

    def __init__(self, exporter: SpanExporter, delivery: Delivery) -> None:
        self._exporter, self._delivery = exporter, delivery

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export a batch of spans."""
        result: SpanExportResult = self._delivery.send(self._exporter, spans, SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        """Export nothing more, and stop trying."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing waits here."""
        return True


class LogForwarder(LogRecordExporter):
    """Exports log records, with their delivery noted."""

    def __init__(self, exporter: LogRecordExporter, delivery: Delivery) -> None:
        self._exporter, self._delivery = exporter, delivery

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Export a batch of log records."""
        result: LogRecordExportResult = self._delivery.send(self._exporter, batch, LogRecordExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        """Export nothing more, and stop trying."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # of the library

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing waits here."""
        return True
