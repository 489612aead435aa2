"""Where what runs now came from: the id of a request, and the trace that it belongs to.

Whoever accepts requests notes both, as they came; they are read only where something is logged or sent on.
"""

from __future__ import annotations

import re
import sys
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

Origin = tuple[str, bytes | None]
"""A request id, and the header ``traceparent`` as it came, which may be anything."""

_origin: Final[ContextVar[Origin | None]] = ContextVar("base04_origin", default=None)

note_origin: Final = _origin.set
forget_origin: Final = _origin.reset
current_origin: Final = _origin.get

_TRACEPARENT: Final = re.compile(
    rb"(?!ff)([0-9a-f]{2})-((?!0{32})[0-9a-f]{32})-((?!0{16})[0-9a-f]{16})-([0-9a-f]{2})(-[\x21-\x7e]*)?\Z"
)
_LONGEST: Final = 512


@dataclass(frozen=True, slots=True)
class TraceParent:
    """A place in a trace: its id, the span there, and whether it is recorded. All in lower-case hexadecimal digits."""

    trace_id: str
    span_id: str
    flags: str = "01"

    @classmethod
    def read(cls, header: bytes | str | None) -> TraceParent | None:
        """Read a ``traceparent`` (W3C Trace Context, section 3.2); None where there is none, or it is not valid."""
        if header is None or len(header) > _LONGEST:
            return None
        try:
            found = _TRACEPARENT.match(header.encode("ascii") if isinstance(header, str) else header)
        except UnicodeEncodeError:
            return None
        if found is None or (found[1] == b"00" and found[5] is not None):
            return None
        return cls(found[2].decode(), found[3].decode(), found[4].decode())

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def current_traceparent() -> TraceParent | None:
    """Return where in a trace the current code is: the present span of OpenTelemetry, or what the request brought."""
    found = _present_span()
    if found is not None:
        return found
    origin = _origin.get()
    return None if origin is None else TraceParent.read(origin[1])


def trace_headers() -> dict[str, str]:
    """Return the header fields that tell another service which trace a request to it belongs to."""
    context = _present_context()
    parent = current_traceparent()
    headers = {} if parent is None else {"traceparent": str(parent)}
    if context is not None and context.trace_state:
        headers["tracestate"] = context.trace_state.to_header()
    return headers


def _present_span() -> TraceParent | None:
    context = _present_context()
    if context is None:
        return None
    return TraceParent(f"{context.trace_id:032x}", f"{context.span_id:016x}", f"{context.trace_flags:02x}")


def _present_context() -> Any:
    """Return the context of the present span, None where there is none.

    Nothing is imported for it: where nobody has imported OpenTelemetry there is no span.
    """
    trace: Any = sys.modules.get("opentelemetry.trace")
    current = getattr(trace, "get_current_span", None)  # it may be about to be imported just now
    if current is None:
        return None
    context = current().get_span_context()
    return context if context.is_valid else None
