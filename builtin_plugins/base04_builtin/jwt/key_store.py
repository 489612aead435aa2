"""Key sets in the vault, one entry for each version.

A version is made by ``create_secret_value``, where the first writer wins: of two processes that rotate at once one
makes the next version, and the other finds it made. No entry is ever written a second time but to blank it, so nothing
can be lost by whoever comes late. ``latest`` only says where to begin to look.
"""

from __future__ import annotations

import re
from typing import Final

from base04_builtin.jwt.key_set import KeySet, read_key_set
from base04_hookspecs.errors import ConfigurationError, NotFound
from base04_hookspecs.vault import VaultManager

VAULT_PATH: Final = "base04/jwt"
LATEST: Final = "latest"

_POINTER: Final = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_BLANK: Final = "superseded"


def version_key(version: int) -> str:
    """Return the vault's key for a version."""
    return f"keys-{version}"


class KeyStore:
    """Reads and writes versions of the key set."""

    def __init__(self, vault: VaultManager) -> None:
        self._vault = vault

    async def load(self) -> KeySet | None:
        """Return the latest set, None where none was ever made.

        Raises:
            ConfigurationError: what the vault holds is not a usable set.
        """
        pointer = await self._get(LATEST) or ""
        begin = int(pointer) if _POINTER.fullmatch(pointer) else 1
        found = await self._last_from(begin)
        if found is None and begin > 1:
            found = await self._last_from(1)
        return None if found is None else _checked(*found)

    async def add(self, key_set: KeySet) -> KeySet:
        """Store the next version, unless somebody has, and return the latest set."""
        text, name = key_set.to_json(), version_key(key_set.version)
        if await self._vault.create_secret_value(VAULT_PATH, name, text) == text:
            await self._vault.set_secret_value(VAULT_PATH, LATEST, str(key_set.version))
            if key_set.version > 1:
                await self._vault.set_secret_value(VAULT_PATH, version_key(key_set.version - 1), _BLANK)
        latest = await self.load()
        if latest is None:
            raise ConfigurationError(f"The signing keys at {VAULT_PATH!r} of the vault were deleted: start again.")
        return latest

    async def _last_from(self, version: int) -> tuple[int, str] | None:
        found = None
        while (text := await self._get(version_key(version))) is not None:
            if text != _BLANK:
                found = version, text
            version += 1
        return found

    async def _get(self, key: str) -> str | None:
        try:
            return await self._vault.get_secret_value(VAULT_PATH, key)
        except NotFound:
            return None


def _checked(version: int, text: str) -> KeySet:
    try:
        return read_key_set(version, text)
    except ValueError as error:
        reason = str(error)
    raise ConfigurationError(
        f"The signing keys at {VAULT_PATH!r}, {version_key(version)!r} of the vault cannot be used: {reason}. Correct "
        "them, or delete the path to have new ones made, which ends all tokens."
    )
