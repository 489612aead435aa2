"""The built-in providers of the role ``vault``."""

from __future__ import annotations

from collections.abc import Iterable

from base04_hookspecs.markers import hookimpl
from base04_hookspecs.provider import Provider


@hookimpl
def vault_providers() -> Iterable[Provider]:
    """Offer the secrets file, and a vault server."""
    yield Provider(
        "file",
        "base04_builtin.vault.file:FileVaultManager",
        default=True,
        capabilities=frozenset({"watch", "shared"}),
        summary="Secrets in a file that only its owner can read",
    )
    yield Provider(
        "hashicorp",
        "base04_builtin.vault.hashicorp:HashicorpVaultManager",
        extra="vault",
        capabilities=frozenset({"watch", "versions", "shared"}),
        summary="A HashiCorp Vault or OpenBao: KV version 2 by token, AppRole or Kubernetes",
    )
