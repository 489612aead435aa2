"""The place of one worker, which one process after the other takes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final

from base04.workers.process import WorkerProcess

_SHORT_S: Final = 10.0
"""A worker that ends sooner after its start has had a short life."""

_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0


@dataclass(eq=False)
class Slot:
    """A number, the process that has it now, and how many short lives there were in a row.

    ``failed_starts`` counts all processes that ended before they served.
    """

    number: int
    worker: WorkerProcess | None = None
    short_lives: int = 0
    failed_starts: int = 0
    tried: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def serving(self) -> WorkerProcess | None:
        """The process, where it serves."""
        worker = self.worker
        return worker if worker is not None and worker.serving.is_set() and not worker.left.is_set() else None

    def pause_after(self, worker: WorkerProcess) -> float:
        """Count the life of a worker, and return how long to wait before its successor starts, in seconds.

        None at all after a long life, or the first short one that served; then doubled from one to the next.
        """
        if time.monotonic() - worker.began >= _SHORT_S and worker.serving.is_set():
            self.short_lives = 0
            return 0.0
        self.short_lives += 1
        self.failed_starts += not worker.serving.is_set()
        if self.short_lives == 1 and worker.serving.is_set():
            return 0.0
        return float(min(_FIRST_PAUSE_S * 2 ** (self.short_lives - 1), _LONGEST_PAUSE_S))
