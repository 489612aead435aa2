"""Where the moving windows are kept."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from limits.errors import ConfigurationError
from limits.storage.base import MovingWindowSupport, Storage


@dataclass(slots=True)
class _Window:
    """What was let through: (when, how much), oldest first."""

    calls: deque[tuple[float, int]] = field(default_factory=deque)
    amount: int = 0

    def forget(self, before: float) -> None:
        while self.calls and self.calls[0][0] <= before:
            self.amount -= self.calls.popleft()[1]


class WindowStorage(Storage, MovingWindowSupport):
    """A storage for the moving window strategy alone, used on one thread.

    The library's own ``MemoryStorage`` walks all keys in a timer thread every 10 ms under traffic, and keeps an empty
    list for every key that it ever saw; its asynchronous one walks them on the event loop. Here each call forgets what
    it comes across and at most two windows that are over, so that neither cost nor memory grows with old keys.

    Args:
        clock: returns the present time in seconds, and never goes back.
    """

    STORAGE_SCHEME = ["base04-window"]  # noqa: RUF012 - the library's metaclass reads a list

    def __init__(
        self, uri: str | None = None, wrap_exceptions: bool = False, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self._clock = clock
        self._windows: dict[str, _Window] = {}
        self._over_at: list[tuple[float, str, int]] = []  # a heap: when to look, at which key, of which period

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        now = self._clock()
        self._drop_some(now)
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = _Window()
            heapq.heappush(self._over_at, (now + expiry, key, expiry))
        window.forget(now - expiry)
        if window.amount + amount > limit:
            return False
        window.calls.append((now, amount))
        window.amount += amount
        return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        now = self._clock()
        window = self._windows.get(key)
        if window is None:
            return now, 0
        window.forget(now - expiry)
        return (window.calls[0][0] if window.calls else now), window.amount

    def seconds_until(self, key: str, limit: int, expiry: int, amount: int) -> float:
        """Return how long it takes until ``amount`` more would fit; ``expiry`` where that never happens."""
        if amount > limit:
            return float(expiry)
        window = self._windows.get(key)
        if window is None:
            return 0.0
        now = self._clock()
        excess = window.amount + amount - limit
        for at, let_through in window.calls:
            if excess <= 0:
                break
            excess -= let_through
            if excess <= 0:
                return max(0.0, at + expiry - now)
        return 0.0

    def seconds_until_empty(self, key: str, expiry: int) -> float:
        """Return how long it takes until all that was let through is forgotten."""
        window = self._windows.get(key)
        return max(0.0, window.calls[-1][0] + expiry - self._clock()) if window and window.calls else 0.0

    def clear_prefix(self, prefix: str) -> bool:
        """Forget all keys that begin so; False where nothing was counted under them."""
        keys = [key for key in self._windows if key.startswith(prefix)]
        amounts = [self._windows.pop(key).amount for key in keys]
        return any(amounts)

    def clear(self, key: str) -> None:
        self._windows.pop(key, None)

    def reset(self) -> int | None:
        count = len(self._windows)
        self._windows.clear()
        self._over_at.clear()
        return count

    def check(self) -> bool:
        return True

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        raise _windows_only()

    def get(self, key: str) -> int:
        raise _windows_only()

    def get_expiry(self, key: str) -> float:
        raise _windows_only()

    def _drop_some(self, now: float) -> None:
        for _ in range(2):
            if not self._over_at or self._over_at[0][0] > now:
                return
            _, key, expiry = heapq.heappop(self._over_at)
            window = self._windows.get(key)
            if window is None:
                continue
            window.forget(now - expiry)
            if window.calls:
                heapq.heappush(self._over_at, (window.calls[-1][0] + expiry, key, expiry))
            else:
                del self._windows[key]


def _windows_only() -> ConfigurationError:
    return ConfigurationError("This storage keeps moving windows alone: use MovingWindowRateLimiter.")
