"""The provider ``hashicorp`` of the role ``vault``: secrets in a HashiCorp Vault or an OpenBao, KV version 2."""

from __future__ import annotations

from base04_builtin.vault.hashicorp.manager import HashicorpVaultManager

__all__ = ["HashicorpVaultManager"]
