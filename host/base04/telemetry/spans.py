"""Spans of OpenTelemetry, with what Base04 says in them: never a message, an argument or a result."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer

from base04.telemetry.origin import TraceParent, current_traceparent
from base04_hookspecs.errors import (
    ActionBusy,
    AuthenticationError,
    Conflict,
    InvalidInput,
    NotFound,
    NotSupported,
    PermissionDenied,
    RateLimited,
)

REFUSALS: Final = (
    ActionBusy,
    AuthenticationError,
    Conflict,
    InvalidInput,
    NotFound,
    NotSupported,
    PermissionDenied,
    RateLimited,
)
"""What tells callers that they are at fault: it is named in a span, which does not count as failed."""

_FRAMES: Final = 30

Attributes = Mapping[str, str | bool | int | float]


def sendable(text: str, longest: int = 1024) -> str:
    """Return the beginning of a text as UTF-8 can carry it: one that it cannot would cost the whole batch."""
    return text[:longest].encode("utf-8", "backslashreplace").decode("utf-8")


def may_be_recorded() -> bool:
    """Tell whether a span that begins here may be recorded: it is not where the one around it was left out."""
    around = trace.get_current_span().get_span_context()
    return not around.is_valid or around.is_remote or bool(around.trace_flags & TraceFlags.SAMPLED)


def context_here() -> Context | None:
    """Return the context that a span begins in: None for the present one, or else what the request came with."""
    if trace.get_current_span().get_span_context().is_valid:
        return None
    parent = current_traceparent()
    return None if parent is None else remote_context(parent)


def remote_context(parent: TraceParent) -> Context:
    """Return a context in which a span of somebody else is the present one."""
    flags = TraceFlags(int(parent.flags, 16))
    place = SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(NonRecordingSpan(place))


class PresentSpan:
    """A span that begins and ends with a ``with`` block, and is the present one within it.

    What the block raises is told by its type, with the places that it came through, and without its message: that may
    hold what a caller sent.
    """

    __slots__ = ("_token", "span")

    def __init__(
        self,
        tracer: Tracer,
        name: str,
        attributes: Attributes | None = None,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        context: Context | None = None,
        links: Sequence[Link] = (),
    ) -> None:
        self.span = tracer.start_span(
            name, context, kind, attributes, links, record_exception=False, set_status_on_exception=False
        )

    def __enter__(self) -> Self:
        self._token = otel_context.attach(trace.set_span_in_context(self.span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        if error is not None:
            self.failed(error)
        otel_context.detach(self._token)
        self.span.end()

    def failed(self, error: BaseException) -> None:
        """Say what went wrong."""
        if not self.span.is_recording():
            return
        name = type_of(error)
        self.span.set_attribute("error.type", name)
        if isinstance(error, (*REFUSALS, asyncio.CancelledError, GeneratorExit)):
            return
        self.span.add_event("exception", {"exception.type": name, "exception.stacktrace": _places(error)})
        self.span.set_status(Status(StatusCode.ERROR))

    def say(self, attributes: Mapping[str, Any]) -> None:
        """Add attributes; those that are None are left out."""
        if self.span.is_recording():
            self.span.set_attributes({name: value for name, value in attributes.items() if value is not None})


def type_of(error: BaseException) -> str:
    """Return the full name of an error's type; of built-in ones the name alone."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _places(error: BaseException) -> str:
    """Return a traceback without lines of source and without the message: it names places alone."""
    frames = traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), limit=-_FRAMES, lookup_lines=False)
    return "".join(f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}\n' for frame in frames)
