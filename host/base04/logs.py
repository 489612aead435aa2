"""What the host writes to standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

from base04.settings import LogSettings
from base04.telemetry.log_marks import add_marks, keep_to_one_line, write_traceback
from base04.telemetry.log_sinks import hand_on


def configure(settings: LogSettings, **always: Any) -> None:
    """Set up structlog, and the standard library's logging for the libraries that use it.

    On a terminal lines are for people, elsewhere they are JSON, unless settings say otherwise. Tracebacks never show
    the values of variables: those may be secrets. Whatever callers send, it neither breaks a line nor makes one.
    ``always`` is in every line.
    """
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    console = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    renderer: Any = structlog.processors.JSONRenderer()
    if console:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=write_traceback)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        add_marks,
        *([_adding(always)] if always else []),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        hand_on,
        *([keep_to_one_line] if console else [structlog.processors.format_exc_info]),
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
        )
    )
    logging.captureWarnings(True)  # what a plugin warns of is a line as all others
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler])


def _adding(always: Mapping[str, Any]) -> Any:
    def add(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for name, value in always.items():
            event.setdefault(name, value)
        return event

    return add
