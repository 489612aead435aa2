"""What an action's file says about how it is run: retries, concurrency, in the background or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

RetryCause = Literal["unavailable", "timeout", "outcome-unknown", "failed"]
"""Why another attempt is made: a manager was unavailable, the attempt took too long, whether it was done is not known,
or the handler raised anything else that is no answer for the caller."""

RETRY_CAUSES: Final[tuple[RetryCause, ...]] = ("unavailable", "timeout", "outcome-unknown", "failed")
MAX_ATTEMPTS: Final = 10
PRIORITIES: Final = (-100, 100)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and when, a handler that did not succeed is called again.

    ``attempts`` counts the first one. The wait before the second is ``delay`` seconds, and each further one is
    ``backoff`` times as long, up to ``max_delay``; half of each is left to chance.
    """

    attempts: int
    delay: float = 0.5
    backoff: float = 2.0
    max_delay: float = 30.0
    when: tuple[RetryCause, ...] = ("unavailable", "outcome-unknown")

    def wait_after(self, attempt: int) -> float:
        """Return the longest wait after an attempt, which count from 1, in seconds."""
        return min(self.delay * self.backoff ** (attempt - 1), self.max_delay)


@dataclass(frozen=True, slots=True)
class ConcurrencyLimit:
    """How many runs there may be at once; ``by`` counts those with equal values of one parameter apart.

    A run that finds no place waits for one, ``wait`` seconds at most; 0 refuses it at once.
    """

    limit: int
    by: str | None = None
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class RunPolicy:
    """How an action is run.

    ``idempotent``: running it twice with the same arguments is the same as running it once. ``background``: a request
    is answered before it has run. ``priority``: of those in the background, higher ones first.
    """

    idempotent: bool = False
    background: bool = False
    priority: int = 0
    retry: RetryPolicy | None = None
    concurrency: ConcurrencyLimit | None = None

    def described(self) -> Mapping[str, Any]:
        """Return it as JSON, as ``ActionInfo`` has it."""
        retry, slots = self.retry, self.concurrency
        return {
            "idempotent": self.idempotent,
            "mode": "background" if self.background else "wait",
            "priority": self.priority,
            "retry": None
            if retry is None
            else {
                "attempts": retry.attempts,
                "delay": retry.delay,
                "backoff": retry.backoff,
                "max_delay": retry.max_delay,
                "when": list(retry.when),
            },
            "concurrency": None if slots is None else {"limit": slots.limit, "by": slots.by, "wait": slots.wait},
        }


DEFAULT: Final = RunPolicy()
