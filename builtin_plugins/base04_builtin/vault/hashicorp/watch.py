"""Looking at the versions of watched paths."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import structlog

from base04_builtin.vault.hashicorp.client import Signature
from base04_builtin.vault.subscribers import Subscribers
from base04_hookspecs.errors import Base04Error, ManagerUnavailable
from base04_hookspecs.vault import RotationCallback

_UNSEEN: Final[Signature] = ("unseen",)

log = structlog.get_logger()


class VersionWatch:
    """Looks at every watched path each ``interval`` seconds, and at once where this process has changed one.

    Args:
        look: returns the signature of a path, None where it holds nothing.
        changed: called when a path is watched first, and before its subscribers when it has changed.
        interval: in seconds, each time up to a fifth more or less.
        lenient: whether a path may be watched that cannot be looked at just now; its first look counts as a change.
    """

    def __init__(
        self,
        look: Callable[[str], Awaitable[Signature | None]],
        changed: Callable[[str], None],
        *,
        interval: float,
        lenient: bool,
    ) -> None:
        self._look, self._changed = look, changed
        self._interval, self._lenient = interval, lenient
        self._subscribers = Subscribers()
        self._seen: dict[str, Signature | None] = {}
        self._failing: set[str] = set()
        self._nudged = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def add(self, path: str, callback: RotationCallback) -> None:
        """Call back for changes of a path from now on."""
        if path not in self._seen:
            try:
                seen = await self._look(path)
            except ManagerUnavailable:
                if not self._lenient:
                    raise
                seen = _UNSEEN
            self._seen.setdefault(path, seen)
            self._changed(path)  # so that who reads now has at least what was seen
        self._subscribers.add(path, callback)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="vault-watch")

    def nudge(self, path: str) -> None:
        """Look soon: this process has changed a path."""
        if path in self._seen:
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
                async with asyncio.timeout(self._interval * random.uniform(0.8, 1.2)):  # noqa: S311 - jitter
                    await self._nudged.wait()
            self._nudged.clear()
            paths = list(self._seen)
            for path, found in zip(paths, await asyncio.gather(*map(self._found, paths)), strict=True):
                if found != self._seen[path]:
                    self._seen[path] = found
                    self._changed(path)
                    await self._subscribers.announce(path)

    async def _found(self, path: str) -> Signature | None:
        """Look at a path; what was seen before, where it cannot be seen now."""
        try:
            found = await self._look(path)
        except Base04Error as error:
            if path not in self._failing:
                self._failing.add(path)
                log.warning("a watched secret cannot be looked at", path=path, error=str(error))
            return self._seen[path]
        self._failing.discard(path)
        return found
