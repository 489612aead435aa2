"""The built-in providers of the role ``redis``."""

from __future__ import annotations

from collections.abc import Iterable

from base04_hookspecs import Provider, hookimpl


@hookimpl
def redis_providers() -> Iterable[Provider]:
    """Offer the store inside the process, and real servers."""
    yield Provider(
        "memory",
        "base04_builtin.redis.memory:MemoryRedisManager",
        default=True,
        contract="1.1",
        summary="Values, counters, scripts and messages inside this process; nothing outlives it.",
    )
    yield Provider(
        "server",
        "base04_builtin.redis.server:ServerRedisManager",
        extra="redis",
        capabilities=frozenset({"persistent", "shared"}),
        contract="1.1",
        summary="Redis servers: alone, watched by sentinels, or a cluster; with TLS.",
    )
