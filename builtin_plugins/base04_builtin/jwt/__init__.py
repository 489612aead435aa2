"""The built-in providers of the role ``jwt``."""

from __future__ import annotations

from collections.abc import Iterable

from base04_hookspecs.markers import hookimpl
from base04_hookspecs.provider import Provider


@hookimpl
def jwt_providers() -> Iterable[Provider]:
    """Offer tokens signed with keys that the vault keeps."""
    yield Provider(
        "signed",
        "base04_builtin.jwt.signed:SignedJWTManager",
        default=True,
        capabilities=frozenset({"jwks", "revocation", "rotation"}),
        contract="1.2",
        summary="Signed tokens with refresh families and revocation",
    )
