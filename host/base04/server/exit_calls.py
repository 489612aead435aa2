"""What has to be done when the interpreter exits."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

_log = structlog.get_logger()


class ExitCalls:
    """Functions to call when the interpreter exits, while threads can still be used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._functions: dict[int, Callable[[], None]] = {}
        self._registered = False

    def add(self, owner: object, function: Callable[[], None]) -> None:
        """Call a function at exit, unless its owner is discarded before."""
        with self._lock:
            self._functions[id(owner)] = function
            if not self._registered:
                # atexit is too late: by then worker threads have ended and none can be started. This is where
                # concurrent.futures ends its own, in reverse order of registration.
                threading._register_atexit(self._call_all)  # type: ignore[attr-defined]  # there is no public one
                self._registered = True

    def discard(self, owner: object) -> None:
        """Do not call the function of an owner."""
        with self._lock:
            self._functions.pop(id(owner), None)

    def _call_all(self) -> None:
        while self._functions:
            _, function = self._functions.popitem()
            try:
                function()
            except Exception:  # noqa: BLE001 - nobody is left to raise it to
                _log.exception("a host failed to stop at exit")
