"""The built-in providers of the role ``module``."""

from __future__ import annotations

from collections.abc import Iterable

from base04_hookspecs import Provider, hookimpl


@hookimpl
def module_providers() -> Iterable[Provider]:
    """Offer a view of the plugins of this host."""
    yield Provider(
        "inprocess",
        "base04_builtin.module.inprocess:InprocessModuleManager",
        default=True,
        summary="lists the plugins of this host and their health",
    )
