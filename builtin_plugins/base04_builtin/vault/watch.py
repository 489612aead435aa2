"""Calling back when secrets have changed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from contextlib import suppress

import structlog

from base04_builtin.vault.secret_file import SecretFile, Secrets
from base04_builtin.vault.subscribers import Subscribers
from base04_hookspecs.errors import Base04Error
from base04_hookspecs.vault import RotationCallback

log = structlog.get_logger()


class SecretWatch:
    """Looks at the file every ``interval`` seconds, and at once when this process has changed it.

    Nothing runs before the first ``add``. It keeps digests of what it has seen, under a key of its own, no secrets.
    """

    def __init__(self, file: SecretFile, interval: float) -> None:
        self._file = file
        self._interval = interval
        self._subscribers = Subscribers()
        self._seen: dict[str, bytes] = {}
        self._digest_key = os.urandom(32)
        self._signature: tuple[int, ...] | None = None
        self._nudged = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def add(self, path: str, callback: RotationCallback) -> None:
        """Call back for changes of a path from now on."""
        if path not in self._seen:
            secrets = await asyncio.to_thread(self._file.read)
            self._seen.setdefault(path, self._digest(secrets, path))
        self._subscribers.add(path, callback)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="vault-watch")

    def nudge(self) -> None:
        """Look at once: this process has changed the file."""
        self._nudged.set()

    async def stop(self) -> None:
        """Look no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._nudged.wait()
            nudged = self._nudged.is_set()
            self._nudged.clear()
            signature = await asyncio.to_thread(self._file.signature)
            if nudged or signature != self._signature:
                self._signature = signature
                await self._look()

    async def _look(self) -> None:
        try:
            secrets = await asyncio.to_thread(self._file.read)
        except Base04Error as error:
            log.warning("secrets file unreadable while watching", error=str(error))
            return
        for path in [path for path in self._seen if self._digest(secrets, path) != self._seen[path]]:
            self._seen[path] = self._digest(secrets, path)
            await self._subscribers.announce(path)

    def _digest(self, secrets: Secrets, path: str) -> bytes:
        content = json.dumps(secrets.get(path), sort_keys=True).encode()
        return hashlib.blake2b(content, key=self._digest_key, digest_size=32).digest()
