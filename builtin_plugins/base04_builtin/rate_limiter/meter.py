"""A rate limit in whole numbers that a script can count with exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from base04_hookspecs.rate_limiter import RateLimit

_EXACT: Final = 2**52
"""Lua's numbers are doubles: sums of two whole numbers up to here are exact."""


@dataclass(frozen=True, slots=True)
class Meter:
    """GCRA (ITU-T I.371, 3.4) written as the leaky bucket that is equivalent to it.

    A call fills ``charge`` units into a bucket of ``capacity`` units, which drains ``drain`` units in a millisecond; it
    is allowed where it does not overflow. The units make all three whole: for 600/minute a call is 100 units, 1 of
    which drains in a millisecond. A theoretical arrival time would be ``now + level / drain``. ``once`` is what the
    script takes for one call, ``suffix`` tells the key of this limit from those of others.
    """

    limit: RateLimit
    charge: int
    capacity: int
    drain: int
    suffix: str
    once: tuple[str, str, str]

    def arguments(self, cost: int) -> tuple[str, str, str]:
        """Return what the script takes for a call: charge, capacity, drain. One beyond the amount never fits."""
        if cost == 1:
            return self.once
        return str(self.charge * min(cost, self.limit.amount + 1)), self.once[1], self.once[2]

    def remaining(self, level: int) -> int:
        """Return how many calls the bucket has room for."""
        return (self.capacity - level) // self.charge

    def reset_after(self, level: int) -> float:
        """Return the number of seconds until the bucket is empty."""
        return -(-level // self.drain) / 1000


@lru_cache(maxsize=1024)
def meter_for(limit: RateLimit) -> Meter:
    """Return the meter of a limit.

    Where an amount and a period are so large and so odd that the exact units would leave a double (999999937/day),
    a call is rounded up by less than a millionth.
    """
    period_ms = limit.period_s * 1000
    divisor = math.gcd(limit.amount, period_ms)
    charge, drain = period_ms // divisor, limit.amount // divisor
    if charge * limit.amount > _EXACT:
        drain = _EXACT // period_ms
        charge = -(-period_ms * drain // limit.amount)
    capacity = charge * limit.amount
    once = (str(charge), str(capacity), str(drain))
    return Meter(limit, charge, capacity, drain, f"{limit.amount}/{limit.period_s}", once)
