"""Noticing that files in folders were saved."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import structlog

from base04_builtin.action_discovery.sources import SUFFIXES, Stamp

Snapshot = dict[str, Stamp]


def snapshot(folders: Sequence[Path]) -> Snapshot:
    """Return the stamps of all action files and modules in folders; a folder that is not there has none."""
    found: Snapshot = {}
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.endswith((*SUFFIXES, ".py")) and not entry.name.startswith("."):
                        state = entry.stat()
                        found[entry.path] = (state.st_mtime_ns, state.st_size, state.st_ino)
        except OSError:
            continue  # it is looked at again, and discovery tells of a folder that cannot be read
    return found


class FolderWatch:
    """Calls back after files in folders changed and then stayed as they are for one look.

    Looking needs no support of the file system, so that it also sees what comes over a network or into a container.
    """

    def __init__(self, folders: Sequence[Path], changed: Callable[[], Awaitable[None]], interval_s: float) -> None:
        self._folders, self._changed, self._interval_s = folders, changed, interval_s
        self._task: asyncio.Task[None] | None = None

    def start(self, known: Snapshot) -> None:
        """Begin to look; ``known`` is how the folders were before they were read."""
        self._task = asyncio.create_task(self._look(known), name="base04 action folders")

    async def stop(self) -> None:
        """Look no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _look(self, known: Snapshot) -> None:
        last = known
        while True:
            await asyncio.sleep(self._interval_s)
            now = await asyncio.to_thread(snapshot, self._folders)
            if now == last != known:
                try:
                    await self._changed()
                except Exception:  # noqa: BLE001 - what one file does to its reading must not end the watch
                    structlog.get_logger().exception("action folders could not be read anew")
                known = now
            last = now
