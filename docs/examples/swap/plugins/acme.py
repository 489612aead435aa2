"""A second plugin that offers a rate limiter."""

from __future__ import annotations

from collections.abc import Iterable

from base04_hookspecs import Provider, hookimpl


@hookimpl
def rate_limiter_providers() -> Iterable[Provider]:
    """Offer one that is never chosen here."""
    yield Provider("tokens", "acme_tokens:TokenRateLimiterManager", summary="tokens in buckets")
