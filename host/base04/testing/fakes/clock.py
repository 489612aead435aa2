"""Time that a test can move, for managers and not for the event loop."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Final

_MOVED: Final = ("time", "time_ns", "monotonic", "monotonic_ns")
_NS: Final = 1_000_000_000
_REAL: Final = {name: getattr(time, name) for name in _MOVED}

PACKAGES: Final = ("base04", "base04_builtin")
"""Whose time is moved; the fixture ``clock_packages`` adds to them."""


class Clock:
    """The time of day and the monotonic clock, as the modules of some packages see them.

    They go on by themselves, and ``advance`` moves both. What sleeps goes on sleeping: the event loop has its own
    clock, and so have servers. A manager has to be made after the clock was started.
    """

    def __init__(self, packages: Iterable[str] = ()) -> None:
        self._packages = (*PACKAGES, *packages)
        self._offset_ns = 0
        self._moved = _MovedTime(self)
        self._replaced: list[tuple[ModuleType, str, Any]] = []

    def time(self) -> float:
        """Return the time of day in seconds since the epoch."""
        return self.time_ns() / _NS

    def time_ns(self) -> int:
        """Return the time of day in nanoseconds since the epoch."""
        return int(_REAL["time_ns"]()) + self._offset_ns

    def monotonic(self) -> float:
        """Return seconds since some moment."""
        return self.monotonic_ns() / _NS

    def monotonic_ns(self) -> int:
        """Return nanoseconds since some moment."""
        return int(_REAL["monotonic_ns"]()) + self._offset_ns

    def advance(self, seconds: float) -> None:
        """Move time forward, at once and for everybody who was told the time until now.

        Raises:
            ValueError: it would go back, or is no finite number.
        """
        if not 0 <= seconds < float("inf"):
            raise ValueError(f"Time cannot be moved by {seconds!r} seconds: give a number from 0 on.")
        self._offset_ns += round(seconds * _NS)
        self.reach()

    def reach(self) -> None:
        """Let all modules that are there by now see this time."""
        ours: dict[int, Any] = {id(function): getattr(self, name) for name, function in _REAL.items()}
        ours[id(time)] = self._moved
        for name, module in list(sys.modules.items()):
            if isinstance(module, ModuleType) and self._covers(name):
                for attribute, value in list(vars(module).items()):
                    if id(value) in ours:
                        self._replaced.append((module, attribute, value))
                        setattr(module, attribute, ours[id(value)])

    def stop(self) -> None:
        """Let all modules see the real time again."""
        while self._replaced:
            setattr(*self._replaced.pop())

    def _covers(self, module: str) -> bool:
        if module == "base04.testing" or module.startswith("base04.testing."):
            return False
        return any(module == package or module.startswith(f"{package}.") for package in self._packages)


class _MovedTime:
    """The module ``time``, with its clocks moved."""

    def __init__(self, clock: Clock) -> None:
        for name in _MOVED:
            setattr(self, name, getattr(clock, name))

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)
