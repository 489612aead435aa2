"""Naming what a plugin takes long for, also where it keeps the event loop from running."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Final

import structlog

SLOW_S: Final = 10.0
"""After so long something that has not ended is named."""

_log = structlog.get_logger()


@contextlib.contextmanager
def watched(plugin: str, stage: str) -> Iterator[None]:
    """Name a plugin and what it does where it has not ended after some seconds, and again when it has.

    The warning comes from a thread: what it tells of may block everything else.
    """
    began, after_s = time.monotonic(), SLOW_S
    told = threading.Event()

    def warn() -> None:
        told.set()
        _log.warning("a plugin takes long and has not ended", plugin=plugin, stage=stage, seconds=after_s)

    timer = threading.Timer(after_s, warn)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if told.is_set():
            seconds = round(time.monotonic() - began, 3)
            _log.warning("a plugin that took long has ended", plugin=plugin, stage=stage, seconds=seconds)
