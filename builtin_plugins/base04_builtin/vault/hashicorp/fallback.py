"""The secrets file that takes the vault's place while that is sealed or out of reach, where settings declare one."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

import structlog

from base04_builtin.vault.secret_file import SecretFile, Secrets
from base04_hookspecs.errors import ConfigurationError, ManagerUnavailable

_ASK_AGAIN_S: Final = 2.0

log = structlog.get_logger()


class Fallback:
    """Read, never written. What it holds is stale by nature, and whoever asks for health is told so."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = SecretFile(path, lock_timeout=1.0)
        self._reason: str | None = None
        self._ask_again = 0.0

    @property
    def reason(self) -> str | None:
        """Why the vault is not used just now, None while it is."""
        return self._reason

    @property
    def skips_vault(self) -> bool:
        """Whether the vault failed a moment ago, so that another try would only make the caller wait."""
        return self._reason is not None and time.monotonic() < self._ask_again

    async def check(self) -> None:
        """Check the file.

        Raises:
            ConfigurationError: it is not there, others can read it, or it is damaged.
        """
        try:
            await asyncio.to_thread(self._file.read)
        except ManagerUnavailable as error:
            raise ConfigurationError(
                f"The settings name the secrets file {self.path} as fallback, and it cannot be read. Write it with "
                "the mode 0600, or take 'fallback' out of the settings."
            ) from error

    async def read(self) -> Secrets:
        """Return everything that the file holds."""
        return await asyncio.to_thread(self._file.read)

    def begin(self, reason: str) -> None:
        """Take note that the vault failed."""
        if self._reason is None:
            log.warning("secrets come from the fallback file", path=str(self.path), reason=reason)
        self._reason, self._ask_again = reason, time.monotonic() + _ASK_AGAIN_S

    def end(self) -> None:
        """Take note that the vault answered."""
        if self._reason is not None:
            log.info("secrets come from the vault again")
        self._reason = None
