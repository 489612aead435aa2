"""The provider ``file`` of the role ``vault``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import Field

from base04_builtin.vault.names import check_key, check_path, check_value
from base04_builtin.vault.secret_file import SecretFile, Secrets
from base04_builtin.vault.watch import SecretWatch
from base04_hookspecs.errors import Base04Error, NotFound
from base04_hookspecs.health import HealthReport, health_report
from base04_hookspecs.settings import DataPath, ManagerSettings
from base04_hookspecs.vault import RotationCallback, VaultConnectionInfo, VaultManager

T = TypeVar("T")


class FileVaultSettings(ManagerSettings):
    """Where the secrets file is, and how it is used. Times are in seconds."""

    path: DataPath = Path("secrets.json")
    lock_timeout: float = Field(default=10.0, gt=0, le=300, allow_inf_nan=False)
    watch_interval: float = Field(default=2.0, gt=0, le=3600, allow_inf_nan=False)


class FileVaultManager(VaultManager):
    """Secrets in a file with mode 0600, shared by all processes of its owner.

    The file is read for every request and nothing is kept in memory: secrets are asked for seldom. Each write is
    durable when it returns. A change by another process is announced within ``watch_interval``.
    """

    def __init__(self, settings: FileVaultSettings) -> None:
        self._settings = settings
        self._file = SecretFile(settings.path, lock_timeout=settings.lock_timeout)
        self._watch = SecretWatch(self._file, settings.watch_interval)
        self._writing = asyncio.Lock()
        self._errors = 0

    def __repr__(self) -> str:
        return f"<FileVaultManager path={str(self._settings.path)!r}>"

    async def start(self) -> None:
        """Check the file; make an empty one where there is none."""
        await asyncio.to_thread(self._file.ensure)

    async def stop(self) -> None:
        """End watching."""
        await self._watch.stop()

    async def health_check(self) -> HealthReport:
        """Read the file."""
        began = time.perf_counter()
        try:
            paths = len(await asyncio.to_thread(self._file.read))
        except Base04Error as error:
            return health_report("unhealthy", str(error), errors=self._errors + 1)
        took = time.perf_counter() - began
        return health_report(
            details="the secrets file can be read", errors=self._errors, response_time=took, paths=paths
        )

    async def get_secret_value(self, path: str, key: str) -> str:
        """Return a secret."""
        check_path(path)
        check_key(key)
        value = (await self._read()).get(path, {}).get(key)
        if value is None:
            raise NotFound(
                f"There is no secret {key!r} at the path {path!r} in {self._settings.path}. "
                "Store it first, or correct the path and the key."
            )
        return value

    async def set_secret_value(self, path: str, key: str, value: str) -> bool:
        """Store a secret durably."""
        check_value(check_path(path), check_key(key), value)
        await self._change(lambda secrets: secrets.setdefault(path, {}).update({key: value}))
        return True

    async def create_secret_value(self, path: str, key: str, value: str) -> str:
        """Store a secret where there is none; whoever takes the lock first wins."""
        check_value(check_path(path), check_key(key), value)
        existing = (await self._read()).get(path, {}).get(key)
        if existing is not None:
            return existing
        return await self._change(lambda secrets: secrets.setdefault(path, {}).setdefault(key, value))

    async def delete_secret(self, path: str) -> bool:
        """Delete all keys of a path."""
        check_path(path)
        return await self._change(lambda secrets: secrets.pop(path, None) is not None)

    async def list_secrets(self, prefix: str = "") -> list[str]:
        """Return the paths that begin with the prefix."""
        return sorted(path for path in await self._read() if path.startswith(prefix))

    async def watch_secret(self, path: str, callback: RotationCallback) -> bool:
        """Call back when a secret of the path has changed; several changes at once may be announced as one."""
        check_path(path)
        await self._watch.add(path, callback)
        return True

    async def get_connection_info(self) -> VaultConnectionInfo:
        """Return where the file is, and whether it can be read."""
        try:
            await asyncio.to_thread(self._file.read)
        except Base04Error:
            readable = False
        else:
            readable = True
        return {
            "provider": "file",
            "address": str(self._settings.path),
            "authentication": "file owner",
            "authenticated": readable,
        }

    async def _read(self) -> Secrets:
        try:
            return await asyncio.to_thread(self._file.read)
        except Base04Error:
            self._errors += 1
            raise

    async def _change(self, step: Callable[[Secrets], T]) -> T:
        try:
            async with self._writing:
                return await asyncio.to_thread(self._file.change, step)
        except Base04Error:
            self._errors += 1
            raise
        finally:
            self._watch.nudge()
