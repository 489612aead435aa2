"""The built-in provider of the role ``state``."""

from __future__ import annotations

from collections.abc import Iterable

from base04_hookspecs import Provider, hookimpl


@hookimpl
def state_providers() -> Iterable[Provider]:
    """Offer states that are kept in the role ``database``."""
    yield Provider(
        "database",
        "base04_builtin.state.database:DatabaseStateManager",
        default=True,
        capabilities=frozenset({"ttl", "durable_callbacks", "watch"}),
        contract="1.1",
        summary="States in the database, each change with its history entry and its event in one step",
    )
