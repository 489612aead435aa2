"""What the host imports to know of the provider; the limits library is imported only if it is chosen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from base04_hookspecs import Provider, hookimpl

CAPABILITIES: Final = frozenset({"atomic_levels", "burst", "exact", "bans"})


@hookimpl
def rate_limiter_providers() -> Iterable[Provider]:
    """Offer the moving window. As the only third-party candidate it takes the place of the built-in provider."""
    yield Provider(
        "moving_window",
        "base04_limits_rate_limiter.manager:MovingWindowRateLimiterManager",
        capabilities=CAPABILITIES,
        summary="exact moving windows of the limits library, counted in this process",
    )
