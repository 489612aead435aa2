"""The built-in provider of the role ``executor``."""

from __future__ import annotations

from collections.abc import Iterable

from base04_hookspecs import Provider, hookimpl


@hookimpl
def executor_providers() -> Iterable[Provider]:
    """Offer an executor that lives in this process."""
    yield Provider(
        "inline",
        "base04_builtin.executor.inline:InlineExecutorManager",
        default=True,
        capabilities=frozenset({"priorities"}),
        summary="Executions in this process: a bounded number at once, by priority.",
    )
