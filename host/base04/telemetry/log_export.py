"""Log events as log records of OpenTelemetry, with the trace and the span that they belong to."""

from __future__ import annotations

import sys
import time
import traceback
from typing import Any, Final

from opentelemetry._logs import Logger, SeverityNumber

from base04.telemetry.log_marks import Event
from base04.telemetry.spans import context_here, sendable, type_of

_SEVERITY: Final = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warning": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
    "exception": SeverityNumber.ERROR,
    "critical": SeverityNumber.FATAL,
}
_LONGEST: Final = 8192
_LARGEST: Final = 1 << 63
_SAID_OTHERWISE: Final = frozenset(
    {"event", "level", "timestamp", "trace_id", "span_id", "exc_info", "stack_info", "_record", "_from_structlog"}
)


class LogExport:
    """Takes log events and emits records; what it does with one is to put it into a bounded queue."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def __call__(self, event: Event) -> None:
        """Take an event. What the libraries say of their own queues stays here: it would feed itself."""
        if str(event.get("logger", "")).startswith("opentelemetry."):
            return
        level = str(event.get("level", "info"))
        self._logger.emit(
            timestamp=time.time_ns(),
            context=context_here(),
            severity_number=_SEVERITY.get(level, SeverityNumber.UNSPECIFIED),
            severity_text=level.upper(),
            body=sendable(str(event.get("event")), _LONGEST),
            attributes=_attributes(event),
        )


def _attributes(event: Event) -> dict[str, Any]:
    found = {name: _attribute(value) for name, value in event.items() if name not in _SAID_OTHERWISE}
    error = _error_of(event.get("exc_info"))
    if error is not None:
        found["exception.type"] = type_of(error)
        found["exception.stacktrace"] = sendable("".join(traceback.format_exception(error))[-_LONGEST:], _LONGEST)
    return found


def _attribute(value: Any) -> Any:
    if isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < _LARGEST):
        return value
    return sendable(value if isinstance(value, str) else _written(value), _LONGEST)


def _written(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - what a value does when it is shown is its own fault; the line says so
        return f"<{type(value).__name__} that raises {type(error).__name__} when it is shown>"


def _error_of(given: Any) -> BaseException | None:
    """Return the exception that an event is about, as structlog and ``logging`` name it."""
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple):
        return given[1] if len(given) > 1 else None
    return sys.exc_info()[1] if given else None
