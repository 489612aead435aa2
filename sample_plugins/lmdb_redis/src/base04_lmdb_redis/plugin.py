"""What the host imports to know of the provider."""

from __future__ import annotations

from collections.abc import Iterable

from base04_hookspecs import Provider, hookimpl


@hookimpl
def redis_providers() -> Iterable[Provider]:
    """Offer the shared file. As the only third-party candidate it takes the place of the built-in provider."""
    yield Provider(
        "lmdb",
        "base04_lmdb_redis.manager:LmdbRedisManager",
        contract="1.1",
        capabilities=frozenset({"persistent", "shared"}),
        summary="an LMDB file that all processes of a machine share; no server",
    )
