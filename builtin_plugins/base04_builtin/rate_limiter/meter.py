"""A rate limit in whole numbers that a script can count with exactly."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

from base04_hookspecs.rate_limiter import RateLimit

EPOCH_MS: Final = 1_735_689_600_000
"""The 1st of January 2025. Times in buckets count from here, which leaves room in a double until 2059."""

_EXACT: Final = 2**52
"""Lua's numbers are doubles: sums of two whole numbers up to here are exact."""

_FASTEST: Final = 2**12


class Meter:
    """GCRA (ITU-T I.371, 3.4) written as the leaky bucket that is equivalent to it.

    A call fills ``charge`` units into a bucket of ``capacity`` units, which drains ``drain`` units in a millisecond; it
    is allowed where it does not overflow. The units make all three whole: for 600/minute a call is 100 units, 1 of
    which drains in a millisecond. What is kept is when the bucket will be empty, in units since the epoch: the
    theoretical arrival time times ``drain``. ``suffix`` tells the key of this limit from those of others.
    """

    __slots__ = ("amount", "capacity", "charge", "drain", "limit", "period_s", "suffix")

    def __init__(self, limit: RateLimit, charge: int, drain: int) -> None:
        self.limit = limit
        self.amount = limit.amount
        self.period_s = limit.period_s
        self.charge = charge
        self.capacity = charge * limit.amount
        self.drain = drain
        self.suffix = f"{limit.amount}/{limit.period_s}"

    def arguments(self, cost: int) -> tuple[int, int, int]:
        """Return what the script takes for a call: charge, capacity, drain. One beyond the amount never fits."""
        return self.charge * min(cost, self.amount + 1), self.capacity, self.drain


@lru_cache(maxsize=4096)
def meter_for(limit: RateLimit) -> Meter:
    """Return the meter of a limit, always the same one.

    Where amount and period are so large and so odd that exact units would leave a double (1000003/minute), a call is
    rounded up: by a four-thousandth for limits of a thousand calls a second, and in proportion for others. No limit
    lets through more than four million a second.
    """
    period_ms = limit.period_s * 1000
    divisor = math.gcd(limit.amount, period_ms)
    charge, drain = period_ms // divisor, limit.amount // divisor
    if drain > _FASTEST or charge * limit.amount > _EXACT:
        drain = max(1, min(_FASTEST, _EXACT // period_ms - 1))
        charge = -(-period_ms * drain // limit.amount)
    return Meter(limit, charge, drain)
