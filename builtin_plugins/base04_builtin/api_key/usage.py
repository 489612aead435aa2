"""When keys were last used, written in batches."""

from __future__ import annotations

import asyncio

import structlog

from base04_builtin.api_key.records import KeyTable
from base04_hookspecs.errors import Base04Error

log = structlog.get_logger()


class UsageLog:
    """Collects last uses, one moment a key, and stores them every ``interval`` seconds and at the end.

    At most ``size`` keys wait; a use of another key is then dropped and counted. What could not be stored waits on.
    """

    def __init__(self, table: KeyTable, interval: float, size: int) -> None:
        self._table = table
        self._interval = interval
        self._size = size
        self._waiting: dict[str, float] = {}
        self._writing: dict[str, float] = {}
        self._any = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def start(self) -> None:
        """Begin to store."""
        self._task = asyncio.create_task(self._run(), name="api-key-usage")

    async def stop(self) -> None:
        """Store what waits, and end."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        await self.flush()
        if self._waiting:
            self.dropped += len(self._waiting)
            log.warning("last uses of API keys lost", keys=len(self._waiting))

    def note(self, key_id: str, moment: float) -> None:
        """Note a use. Never blocks and never fails."""
        if key_id not in self._waiting and len(self._waiting) >= self._size:
            self.dropped += 1
            return
        self._waiting[key_id] = max(moment, self._waiting.get(key_id, moment))
        self._any.set()

    def last_use(self, key_id: str) -> float | None:
        """Return a noted use that may not be stored yet."""
        moment = self._waiting.get(key_id)
        return moment if moment is not None else self._writing.get(key_id)

    async def flush(self) -> None:
        """Store what waits now; what cannot be stored waits on."""
        self._any.clear()
        if not self._waiting:
            return
        self._writing, self._waiting = self._waiting, {}
        stored = False
        try:
            await self._table.record_use(self._writing)
            stored = True
        except Base04Error as error:
            log.warning("last uses of API keys not stored", error=str(error), keys=len(self._writing))
        except Exception:
            log.exception("storing last uses of API keys failed", keys=len(self._writing))
        finally:
            unstored, self._writing = self._writing, {}
            if not stored:
                for key_id, moment in unstored.items():
                    self.note(key_id, moment)

    async def _run(self) -> None:
        while True:
            await self._any.wait()
            await asyncio.sleep(self._interval)
            await self.flush()
