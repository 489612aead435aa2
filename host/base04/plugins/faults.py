"""What went wrong in the parts of a plugin, kept for whoever looks at the plugin."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from base04.plugins.isolation import described
from base04_hookspecs.errors import Base04Error
from base04_hookspecs.module import ModuleFault

MOST_PARTS: Final = 32
"""How many parts of a plugin are told apart; the oldest are forgotten first."""

_AGAIN_S: Final = 1.0
"""A traceback is written anew only so long after the last one: what fails at every request fails often."""


@dataclass(slots=True)
class Fault:
    """The newest failure of one part, and how often it has failed. ``at`` is in seconds since the epoch."""

    part: str
    reason: str
    error: str
    at: float
    times: int = 1

    def describe(self) -> ModuleFault:
        """Return it as JSON."""
        return {"part": self.part, "reason": self.reason, "error": self.error, "at": self.at, "times": self.times}


@dataclass(slots=True)
class Faults:
    """The parts of one plugin that have failed, the newest last."""

    parts: dict[str, Fault] = field(default_factory=dict)

    def note(self, part: str, error: BaseException) -> Fault:
        """Keep what a part has raised; an error of the contracts explains itself and keeps no traceback."""
        found, now = self.parts.pop(part, None), time.time()
        if found is None or now - found.at >= _AGAIN_S:
            text = "" if isinstance(error, Base04Error) else "".join(traceback.format_exception(error))
            reason = str(error) if isinstance(error, Base04Error) else described(error)
            found = Fault(part, reason, text, now, 1 if found is None else found.times + 1)
        else:
            found.times += 1
        self.parts[part] = found
        while len(self.parts) > MOST_PARTS:
            del self.parts[next(iter(self.parts))]
        return found

    def clear(self, *parts: str) -> None:
        """Forget parts, which do well now."""
        for part in parts:
            self.parts.pop(part, None)

    def __iter__(self) -> Iterator[Fault]:
        return iter(list(self.parts.values()))

    def __bool__(self) -> bool:
        return bool(self.parts)
