"""Changes of a host with several workers: one at a time, made by one worker and followed by all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from base04.plugins.module_choices import ModuleChoices
from base04.settings import HostSettings
from base04.workers import messages
from base04.workers.crew import Crew, either
from base04.workers.process import WorkerProcess
from base04.workers.slot import Slot
from base04.workers.turns import Claim, Turns

_MARGIN_S: Final = 15.0

_log = structlog.get_logger()


class Changes:
    """Knows what was accepted, gives turns, and has everybody follow.

    Args:
        accepted: what the host is at first.
        crew: the workers.
        choices: where it is written down which plugins are switched off, None where nothing is to be written.
        begin: runs a step in the background, under a name.
        retire: has a worker end, and its successor start at once.
    """

    def __init__(
        self,
        accepted: messages.Accepted,
        crew: Crew,
        choices: ModuleChoices | None,
        begin: Callable[[Coroutine[Any, Any, None], str], None],
        retire: Callable[[WorkerProcess], None],
    ) -> None:
        self.accepted = accepted
        self._crew, self._choices, self._begin, self._retire = crew, choices, begin, retire
        self._turns = Turns()
        self._converging: Claim | None = None

    def take(self, worker: WorkerProcess, news: messages.News) -> None:
        """Take what a worker tells, as far as it is about changes."""
        match news:
            case messages.Started():
                self._admit(worker)
            case messages.TurnWanted():
                self._turns.want(Claim(worker, news.change), self.accepted.revision)
            case messages.Unchanged():
                if self._turns.give_up(Claim(worker, news.change)):
                    self._turns.advance(self.accepted.revision)
            case messages.Changed():
                self._converging = Claim(worker, news.change)
                self._begin(self._converge(self._converging, news), "converge")
            case messages.Followed():
                self._followed(worker, news)

    def forget(self, worker: WorkerProcess) -> None:
        """Give up what a worker wanted, since it is gone; who dies while it changes has changed nothing."""
        self._turns.forget(worker)
        holder = self._turns.holder
        if holder is not None and holder.worker is worker and holder != self._converging:
            self._begin(self._undo(holder), "undo")

    def end_stuck(self) -> None:
        """Kill a worker that has the turn and says nothing for so long that nobody else would ever have it."""
        holder = self._turns.holder
        patience_s = _longest_start(self.accepted.settings) + _MARGIN_S
        if holder is not None and holder != self._converging and holder.worker.is_silent(patience_s):
            _log.error("a worker is stuck in a change and is killed", number=holder.worker.number)
            holder.worker.kill()

    def _admit(self, worker: WorkerProcess) -> None:
        """Let a worker serve that is as the host is by now; one that is not follows first."""
        if worker.revision == self.accepted.revision:
            worker.stage = "serving"
            self._crew.tell_roster()
            worker.tell(messages.Serve())
        else:
            worker.tell(messages.Follow(self.accepted, None))

    async def _converge(self, claim: Claim, news: messages.Changed) -> None:
        """Have all others follow what one has become, and tell that one when they have, or will not."""
        self.accepted = news.accepted
        self._crew.revision = claim.worker.revision = news.accepted.revision
        patience_s = _longest_start(news.accepted.settings) + _MARGIN_S
        failed = {slot: slot.failed_starts for slot in self._crew.slots}
        others = [worker for worker in self._crew.admitted if worker is not claim.worker]
        await asyncio.gather(*(self._have_follow(worker, news, patience_s) for worker in others))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while not self._converged(failed) and not self._crew.stopping.is_set():
                    self._crew.news.clear()
                    await either(self._crew.news, self._crew.stopping)
        self._crew.tell_roster()
        claim.worker.tell(messages.Converged(claim.change))
        self._converging = None
        self._turns.give_up(claim)
        self._turns.advance(self.accepted.revision)

    def _converged(self, failed: dict[Slot, int]) -> bool:
        """Tell whether all serve what was accepted last, but for those that have failed to start meanwhile."""
        return all(
            (slot.serving is not None and slot.serving.revision == self.accepted.revision)
            or slot.failed_starts > failed[slot]
            for slot in self._crew.slots
        )

    async def _have_follow(self, worker: WorkerProcess, news: messages.Changed, patience_s: float) -> None:
        """Have one worker follow; one that does not is replaced."""
        worker.following = asyncio.get_running_loop().create_future()
        worker.tell(messages.Follow(news.accepted, news.renew))
        try:
            async with asyncio.timeout(patience_s):
                fault = await worker.following
        except TimeoutError:
            fault = f"it has not followed within {patience_s:g} s"
        if fault and not worker.left.is_set():
            worker.reason = f"It did not follow a change: {fault}"
            _log.error("a worker did not follow a change and is replaced", number=worker.number, reason=fault)
            self._retire(worker)

    def _followed(self, worker: WorkerProcess, news: messages.Followed) -> None:
        if not news.fault:
            worker.revision = news.revision
        if worker.stage == "starting" and news.fault:
            worker.reason = news.fault
            self._retire(worker)
        elif worker.stage == "starting":
            self._admit(worker)
        elif worker.following is not None and not worker.following.done():
            worker.following.set_result(news.fault)

    async def _undo(self, claim: Claim) -> None:
        """Take back what a worker has written down for a change in which it died."""
        if self._choices is not None:
            await asyncio.to_thread(self._choices.write, self.accepted.disabled)
        self._turns.give_up(claim)
        self._turns.advance(self.accepted.revision)


def _longest_start(settings: HostSettings) -> float:
    """Return how long the slowest manager may take to start, in seconds."""
    roles = settings.managers.values()
    return max((30.0, *(instance.start_timeout for role in roles for instance in (role, *role.instances.values()))))
