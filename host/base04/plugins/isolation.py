"""What a plugin raises, kept apart from what the host itself must obey."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

_interrupted = threading.Event()


def pressed(error: BaseException) -> bool:
    """Tell whether an exception is the Ctrl-C of whoever runs the process, and not something that a plugin raised."""
    return isinstance(error, KeyboardInterrupt) and _interrupted.is_set()


def escapes(error: BaseException) -> bool:
    """Tell whether an exception must go on up, out of a step of a plugin that was awaited."""
    return isinstance(error, asyncio.CancelledError | GeneratorExit) or pressed(error)


def described(error: BaseException) -> str:
    """Return the type and the text of an exception, whose ``__str__`` may itself raise."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - what it would have said is nobody's fault but its own
        return f"{type(error).__name__}, which cannot say more"


@contextlib.contextmanager
def plugin_code() -> Iterator[None]:
    """Run code of a plugin within, such as its module.

    What it prints goes to standard error: standard output belongs to the command that runs. A Ctrl-C within is noted,
    so that it can be told from a ``KeyboardInterrupt`` that the plugin raises.
    """
    noting = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if noting:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        with _output_kept:
            yield
    finally:
        if noting:
            signal.signal(signal.SIGINT, signal.default_int_handler)


class _OutputKept:
    """Turns standard output to standard error while anybody is within, in whichever thread."""

    def __init__(self) -> None:
        self._lock, self._within, self._kept = threading.Lock(), 0, sys.stdout

    def __enter__(self) -> None:
        with self._lock:
            if not self._within:
                self._kept, sys.stdout = sys.stdout, sys.stderr
            self._within += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if not self._within:
                sys.stdout = self._kept


_output_kept = _OutputKept()


def _interrupt(number: int, frame: Any) -> None:
    _interrupted.set()
    signal.default_int_handler(number, frame)
