"""The secrets that a manager's settings name."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Final

from base04.errors import HostError
from base04.resolution import Node
from base04_hookspecs.manager import Manager
from base04_hookspecs.vault import VaultManager

SecretValues = Mapping[tuple[str, str], str]
"""By path and key."""

_DIGEST_KEY: Final = os.urandom(32)


async def secret_values(node: Node, vault: Manager | None) -> SecretValues:
    """Read what the settings of a manager name, as the vault has it now.

    Raises:
        HostError: what should be the vault is none.
        Base04Error: what the vault raises.
    """
    if not node.secrets:
        return {}
    if not isinstance(vault, VaultManager):
        raise HostError(f"{vault!r} is not a vault.")
    return {(path, key): await vault.get_secret_value(path, key) for path, key in node.secrets}


def fingerprint(values: SecretValues) -> bytes:
    """Return bytes that change with the secrets, mean nothing to another process, and do not tell them."""
    listed = sorted([path, key, value] for (path, key), value in values.items())
    return hashlib.blake2b(json.dumps(listed).encode(), key=_DIGEST_KEY, digest_size=16).digest()
