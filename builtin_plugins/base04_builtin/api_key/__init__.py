"""The built-in providers of the role ``api_key``."""

from __future__ import annotations

from collections.abc import Iterable

from base04_hookspecs.markers import hookimpl
from base04_hookspecs.provider import Provider


@hookimpl
def api_key_providers() -> Iterable[Provider]:
    """Offer keys whose keyed hashes the database keeps."""
    yield Provider(
        "database",
        "base04_builtin.api_key.database:DatabaseApiKeyManager",
        default=True,
        summary="Keys as keyed hashes in the database",
    )
