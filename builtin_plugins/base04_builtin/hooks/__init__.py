"""The built-in provider of the role ``hooks``."""

from __future__ import annotations

from collections.abc import Iterable

from base04_hookspecs import Provider, hookimpl


@hookimpl
def hooks_providers() -> Iterable[Provider]:
    """Offer named events that live in this process."""
    yield Provider(
        "inprocess",
        "base04_builtin.hooks.inprocess:InProcessHooksManager",
        default=True,
        contract="1.1",
        summary="Named events of the application, called back by priority.",
    )
