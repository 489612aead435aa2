"""Who of the workers may change the host: one at a time, in the order in which they asked."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from base04.workers import messages
from base04.workers.process import WorkerProcess

_BEHIND: Final = "This worker has not followed the last change, and is being replaced. Ask again."


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker and the number that it gave its change."""

    worker: WorkerProcess
    change: int


class Turns:
    """A queue of claims; ``holder`` has the turn."""

    def __init__(self) -> None:
        self._waiting: deque[Claim] = deque()
        self.holder: Claim | None = None

    def want(self, claim: Claim, revision: int) -> None:
        """Put a claim into the queue; ``revision`` is the one that whoever changes the host must serve."""
        self._waiting.append(claim)
        self.advance(revision)

    def advance(self, revision: int) -> None:
        """Give the turn to the next one where nobody has it."""
        while self.holder is None and self._waiting:
            claim = self._waiting.popleft()
            if claim.worker.left.is_set() or claim.worker.revision != revision:
                claim.worker.tell(messages.Turn(claim.change, _BEHIND))
            else:
                self.holder = claim
                claim.worker.tell(messages.Turn(claim.change))

    def give_up(self, claim: Claim) -> bool:
        """Take a claim out of the queue, and tell whether it had the turn, which is free then."""
        if self.holder == claim:
            self.holder = None
            return True
        if claim in self._waiting:
            self._waiting.remove(claim)
        return False

    def forget(self, worker: WorkerProcess) -> None:
        """Take all that a worker wanted out of the queue."""
        self._waiting = deque(claim for claim in self._waiting if claim.worker is not worker)
