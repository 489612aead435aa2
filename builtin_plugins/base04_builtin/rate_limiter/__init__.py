"""The built-in providers of the role ``rate_limiter``."""

from __future__ import annotations

from collections.abc import Iterable

from base04_hookspecs import Provider, hookimpl


@hookimpl
def rate_limiter_providers() -> Iterable[Provider]:
    """Offer the limiter that counts with GCRA on the ``redis`` role."""
    yield Provider(
        "gcra",
        "base04_builtin.rate_limiter.gcra:GcraRateLimiterManager",
        default=True,
        capabilities=frozenset({"atomic_levels", "burst", "bans", "durable_bans", "auto_ban"}),
        summary="All levels checked and consumed in one atomic step, with bursts up to the limit.",
    )
