"""Watching a state: its history from a version on, and then each change as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from base04_builtin.state.store import StateStore
from base04_builtin.state.wakeups import Wakeups
from base04_hookspecs.errors import HistoryPruned
from base04_hookspecs.state import StateChange

_AT_ONCE = 100


class Watch(AsyncIterator[StateChange]):
    """The changes of one state after a version, without end.

    Args:
        store: where the history is.
        wakeups: who tells of changes.
        state_id: the state.
        from_version: the last version that is known already, None for the present one.
        poll_s: how often to look when nobody tells of anything.
    """

    def __init__(
        self, store: StateStore, wakeups: Wakeups, state_id: str, from_version: int | None, poll_s: float
    ) -> None:
        self._store, self._wakeups, self._state_id, self._poll_s = store, wakeups, state_id, poll_s
        self._version = from_version
        self._ready: list[StateChange] = []
        self._wake = asyncio.Event()
        self._listening = False

    async def __anext__(self) -> StateChange:
        """Return the next change, when there is one.

        Raises:
            HistoryPruned: it is kept no more.
        """
        if self._version is None:
            self._version = await self._store.last_version(self._state_id)
        while not self._ready:
            self._ready = (await self._after(self._version))[::-1]
            if not self._ready:
                await self._news()
        change = self._ready.pop()
        self._version = change["version"]
        return change

    async def _after(self, version: int) -> list[StateChange]:
        found = await self._store.history_after(self._state_id, version, _AT_ONCE)
        if found and found[0]["version"] != version + 1:
            raise HistoryPruned(
                f"The changes of the state {self._state_id!r} after version {version} are not all kept any more; "
                f"those from version {found[0]['version']} on are. Read the state, and watch it from its version."
            )
        return found

    async def _news(self) -> None:
        self._wakeups.listen(self._heard)
        try:
            async with asyncio.timeout(self._poll_s):
                await self._wake.wait()
        except TimeoutError:
            return
        finally:
            self._wakeups.ignore(self._heard)
            self._wake.clear()

    def _heard(self, ids: Iterable[str] | None) -> None:
        if ids is None or self._state_id in ids:
            self._wake.set()
