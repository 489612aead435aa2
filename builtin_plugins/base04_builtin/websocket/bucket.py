"""How many messages a connection may send."""

from __future__ import annotations


class TokenBucket:
    """A token bucket that goes into debt: who goes on after being refused is told apart from who stops.

    Args:
        rate: tokens that come back in a second.
        burst: tokens that there are at most.
        now: the present time in seconds, on the clock that ``take`` is given.
    """

    __slots__ = ("_burst", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._updated = now

    def take(self, now: float) -> float:
        """Take one token and return the seconds to wait until one could be had, 0 where there was one."""
        self._refill(now)
        self._tokens -= 1
        return 0.0 if self._tokens >= 0 else -self._tokens / self._rate

    def take_if_any(self, now: float) -> float:
        """Take one token if there is one, and return the seconds to wait until there is, 0 where there was."""
        self._refill(now)
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0

    def _refill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._updated) * self._rate)
        self._updated = now

    @property
    def overdrawn(self) -> bool:
        """Whether as many tokens were refused as there are at most."""
        return self._tokens <= -self._burst
