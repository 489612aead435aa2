"""All workers of a host as its supervisor knows them, and what they are told of each other."""

from __future__ import annotations

import asyncio
from typing import Final

from base04.workers import messages
from base04.workers.process import WorkerProcess
from base04.workers.slot import Slot

_LONGEST_INTERVAL_S: Final = 5.0
_SILENT_S: Final = 6.0


class Crew:
    """The slots, and the processes that there are: those that drain have a successor in their slot already.

    Args:
        number: how many workers there should be.
        interval_s: how often each is asked how it is, at least every few seconds.
    """

    def __init__(self, number: int, interval_s: float) -> None:
        self.interval_s = min(interval_s, _LONGEST_INTERVAL_S)
        self.slots = [Slot(position) for position in range(1, number + 1)]
        self.processes: set[WorkerProcess] = set()
        self.revision = 1
        self.restarts = 0
        self.listeners_apart = False
        """Whether each worker has a listener of its own."""

        self.stopping = asyncio.Event()
        """Set when the host is to end."""

        self.news = asyncio.Event()
        """Set whenever something has changed; whoever waits for something clears it first."""

        self._silent_s = max(3 * self.interval_s, _SILENT_S)
        self._told: messages.Roster | None = None

    @property
    def serving(self) -> list[WorkerProcess]:
        """Those that serve, in the order of their numbers."""
        return [slot.serving for slot in self.slots if slot.serving is not None]

    @property
    def admitted(self) -> list[WorkerProcess]:
        """Those that serve or have been told to, in the order of their numbers."""
        return [slot.worker for slot in self.slots if slot.worker is not None and slot.worker.stage == "serving"]

    def tell(self, order: messages.Order) -> None:
        """Tell all processes, those that drain among them."""
        for worker in self.processes:
            worker.tell(order)

    def ask(self) -> None:
        """Ask those that serve how they are."""
        for worker in self.admitted:
            worker.tell(messages.Ask())

    def tell_roster(self) -> None:
        """Tell all workers who there is, and for whom to accept connections, where that is new."""
        self._spread_connections()
        roster = messages.Roster(self.revision, tuple(map(self._peer, self.slots)), self.restarts)
        if roster != self._told:
            self._told = roster
            self.tell(roster)

    def _spread_connections(self) -> None:
        """Have somebody accept the connections of those who cannot."""
        if self.stopping.is_set() or not self.listeners_apart:
            return
        able = [worker for worker in self.serving if not worker.is_silent(self._silent_s)]
        left = frozenset(slot.number for slot in self.slots) - {worker.number for worker in able}
        for position, worker in enumerate(able):
            numbers = left if position == 0 else frozenset()
            if worker.accepting != numbers:
                worker.accepting = numbers
                worker.tell(messages.Accept(numbers))

    def _peer(self, slot: Slot) -> messages.Peer:
        if slot.worker is not None and (slot.worker.alive or not slot.worker.left.is_set()):
            return slot.worker.peer(silent_after_s=self._silent_s)
        return messages.Peer({"worker": slot.number, "pid": None, "status": "down", "revision": 0, "health": None}, "")


async def either(*events: asyncio.Event) -> None:
    """Wait until one of several things has happened."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
