"""How patient a client is."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

SERVER_CLOSED: Final = 1000
FAULTS: Final = frozenset({1002, 1003, 1007, 1009, 4400})
"""Close codes for faults of the client: doing it again would change nothing."""
OTHER_TOKEN: Final = frozenset({4401, 4410, 4411})
"""Close codes after which only another token helps."""
PASSING: Final = frozenset({"rate_limited", "unavailable"})
"""Codes of refusals after which the same may be asked again."""


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """All times are in seconds.

    Args:
        min_pause: before the second try to connect; it doubles with every further one.
        max_pause: between tries at most.
        timeout: for which an answer is waited.
        ping_interval: of silence, after which the server is asked whether it is there.
        renew_before: the end of a token at which another one is asked for.
        stable_after: which a connection was a good one, so that the next pauses begin small again.
        queue_size: how many events may wait to be read before the connection is read no further.
    """

    min_pause: float = 0.5
    max_pause: float = 30.0
    timeout: float = 15.0
    ping_interval: float = 25.0
    renew_before: float = 30.0
    stable_after: float = 5.0
    queue_size: int = 1000


class Backoff:
    """Pauses that double, each with as much chance in it as keeps clients from coming all at once."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._pause = 0.0

    def next(self) -> float:
        """Return the seconds to wait before the next try: between half of the pause and all of it."""
        self._pause = min(self._settings.max_pause, self._pause * 2 or self._settings.min_pause)
        return self._pause * random.uniform(0.5, 1.0)  # noqa: S311 - it spreads load and protects nothing

    def reset(self) -> None:
        """Begin small again."""
        self._pause = 0.0
