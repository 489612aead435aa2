"""What the status codes of ``sys/health`` mean for whoever needs secrets.

Source: https://developer.hashicorp.com/vault/api-docs/system/health
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple


class VaultCondition(NamedTuple):
    """Whether the vault serves, and what to tell about it."""

    serves: bool
    details: str


_CONDITIONS: Final[Mapping[int, VaultCondition]] = MappingProxyType(
    {
        200: VaultCondition(True, "the vault is unsealed and active"),
        429: VaultCondition(True, "the vault is a standby, which passes requests on to the active one"),
        473: VaultCondition(True, "the vault is a performance standby, which answers reads itself"),
        472: VaultCondition(False, "the vault is a secondary for disaster recovery, which serves nobody"),
        501: VaultCondition(False, "the vault has not been initialized; run: vault operator init"),
        503: VaultCondition(False, "the vault is sealed; run: vault operator unseal"),
    }
)


def condition(status: int) -> VaultCondition:
    """Return what a status code of ``sys/health`` means."""
    return _CONDITIONS.get(status) or VaultCondition(False, f"the vault's health has the unknown status {status}")
