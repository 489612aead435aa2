"""How often keys were used, and when last, written in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice

import structlog

from base04_builtin.api_key.records import KeyTable, Uses
from base04_hookspecs.errors import Base04Error, OutcomeUnknown

log = structlog.get_logger()


class UsageLog:
    """Collects uses, one entry a key, and stores them every ``interval`` seconds and at the end.

    At most ``size`` keys wait; a use of another key is then dropped and counted. What could not be stored waits on.
    Where it is not known whether it was, the moments wait on and the uses count as dropped: none is counted twice.
    """

    def __init__(self, table: KeyTable, interval: float, size: int) -> None:
        self._table = table
        self._interval = interval
        self._size = size
        self._waiting: dict[str, Uses] = {}
        self._writing: dict[str, Uses] = {}
        self._any = asyncio.Event()
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def start(self) -> None:
        """Begin to store."""
        self._ending.clear()
        self._task = asyncio.create_task(self._run(), name="api-key-usage")

    async def stop(self) -> None:
        """Store what waits, and end."""
        task, self._task = self._task, None
        if task is None:
            return
        self._ending.set()
        self._any.set()
        await task
        if self._waiting:
            lost = _sum(self._waiting)
            self.dropped += lost
            log.warning("uses of API keys lost", keys=len(self._waiting), uses=lost)

    def note(self, key_id: str, moment: float) -> None:
        """Note a use. Never blocks and never fails."""
        self._add(key_id, Uses(1, moment))

    def noted(self, key_id: str) -> Uses | None:
        """Return noted uses that are not stored yet."""
        waiting, writing = self._waiting.get(key_id), self._writing.get(key_id)
        return waiting.joined(writing) if waiting and writing else waiting or writing

    async def flush(self) -> None:
        """Store what waits now; what cannot be stored waits on."""
        self._any.clear()
        self._writing, self._waiting = self._waiting, {}
        try:
            while self._writing:
                await self._store(dict(islice(self._writing.items(), self._table.batch_size)))
        finally:  # where it was cancelled
            unstored, self._writing = self._writing, {}
            self._put_back(unstored)

    async def _store(self, batch: Mapping[str, Uses]) -> None:
        left: Mapping[str, Uses] = {key_id: Uses(0, uses.last) for key_id, uses in batch.items()}
        try:
            await self._table.add_uses(batch)
            left = {}
        except OutcomeUnknown as error:
            log.warning("uses of API keys perhaps not stored", error=str(error), keys=len(batch))
        except Base04Error as error:  # nothing of it was done
            left = batch
            log.warning("uses of API keys not stored", error=str(error), keys=len(batch))
        except Exception:
            log.exception("storing uses of API keys failed", keys=len(batch))
        finally:
            for key_id in batch:
                del self._writing[key_id]
            if left:
                self.dropped += _sum(batch) - _sum(left)
                self._put_back(left)

    def _put_back(self, uses: Mapping[str, Uses]) -> None:
        for key_id, one in uses.items():
            self._add(key_id, one)

    def _add(self, key_id: str, uses: Uses) -> None:
        known = self._waiting.get(key_id)
        if known is None and len(self._waiting) >= self._size:
            self.dropped += uses.times
            return
        self._waiting[key_id] = uses if known is None else known.joined(uses)
        self._any.set()

    async def _run(self) -> None:
        while not self._ending.is_set():
            await self._any.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._ending.wait()
            await self.flush()
        await self.flush()  # what was used during the last one


def _sum(uses: Mapping[str, Uses]) -> int:
    return sum(one.times for one in uses.values())
