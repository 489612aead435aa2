"""Who gets log events beside standard error. The pipeline of log lines is put together once, before they are known."""

from __future__ import annotations

from collections.abc import Callable

from base04.telemetry.log_marks import Event

Sink = Callable[[Event], None]

_sinks: list[Sink] = []

add_sink = _sinks.append
remove_sink = _sinks.remove


def hand_on(_: object, __: str, event: Event) -> Event:
    """Give an event to every sink, in the thread that logs it; sinks change nothing of it, and raise nothing."""
    for sink in _sinks:
        sink(event)
    return event
