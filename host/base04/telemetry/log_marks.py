"""What log lines say of what was running when they were written, read at that moment; and lines that nobody forges."""

from __future__ import annotations

from collections.abc import MutableMapping
from io import StringIO
from typing import Any, Final, TextIO

from structlog.dev import plain_traceback

from base04.telemetry.origin import current_origin, current_traceparent
from base04_hookspecs.context import current_request

Event = MutableMapping[str, Any]

_LISTED: Final = frozenset({"exception", "stack", "exc_info", "stack_info", "_record"})
"""What has lines of its own, or is no text."""


def add_marks(_: Any, __: str, event: Event) -> Event:
    """Add the request id, action and user of what is running, and its trace, where there are any.

    What a line says of itself stays. It works for everything that runs in the context of a request: its task, those
    that it has begun, and worker threads.
    """
    request, origin = current_request(), current_origin()
    if request is not None:
        event.setdefault("request_id", request.request_id)
        if request.action is not None:
            event.setdefault("action", request.action)
        if request.principal.user_id is not None:
            event.setdefault("user_id", request.principal.user_id)
    elif origin is not None:
        event.setdefault("request_id", origin[0])
    trace = current_traceparent()
    if trace is not None:
        event.setdefault("trace_id", trace.trace_id)
        event.setdefault("span_id", trace.span_id)
    return event


def keep_to_one_line(_: Any, __: str, event: Event) -> Event:
    """Write texts with characters that cannot be printed as Python would: no line break or escape sequence acts."""
    for key, value in event.items():
        if isinstance(value, str) and key not in _LISTED and not value.isprintable():
            event[key] = repr(value)
    return event


def write_traceback(stream: TextIO, exc_info: Any) -> None:
    """Write a traceback without the values of variables; indented, so that no message in it looks like a line."""
    written = StringIO()
    plain_traceback(written, exc_info)
    for line in written.getvalue().strip("\n").splitlines():
        stream.write("\n    " + (line if line.isprintable() else repr(line)[1:-1]))
