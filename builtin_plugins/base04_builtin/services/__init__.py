"""The built-in provider of the role ``services``."""

from __future__ import annotations

from collections.abc import Iterable

from base04_hookspecs import Provider, hookimpl


@hookimpl
def services_providers() -> Iterable[Provider]:
    """Offer services that live in this process."""
    yield Provider(
        "inprocess",
        "base04_builtin.services.inprocess:InProcessServicesManager",
        default=True,
        contract="1.1",
        summary="Objects shared by name, started when first asked for and stopped in reverse.",
    )
