"""The supervisor: starts workers, replaces those that end, and has all of them follow each change."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from base04.control_socket import control_listener
from base04.errors import HostError
from base04.serving import listen_apart, url_of
from base04.settings import HostSettings, ServerSettings
from base04.telemetry.switch import refuse_missing_library
from base04.workers import messages
from base04.workers.folder import own_socket, sockets_of_workers
from base04.workers.process import WorkerProcess
from base04.workers.sharing import refuse_what_is_not_shared
from base04.workers.slot import Slot
from base04.workers.turns import Claim, Turns

if TYPE_CHECKING:
    from base04.app_manager import AppManager

Greet = Callable[[Sequence[str]], None]
"""Called once with what the host says at its start."""

_MOST_FAILURES: Final = 5
"""After how many starts in a row that failed, of any worker, the supervisor gives up where nobody serves."""

_NO_PROCESS_S: Final = 5.0
_MARGIN_S: Final = 15.0
_LONGEST_INTERVAL_S: Final = 5.0
_SILENT_S: Final = 6.0

_log = structlog.get_logger()


def supervise(manager: AppManager, workers: int, greet: Greet, *, safe_mode: bool, **overrides: Any) -> None:
    """Serve with several processes until a signal ends it.

    Args:
        manager: the host, not started: what it is to be.
        workers: how many processes serve.
        greet: prints the greeting.
        safe_mode: as the host was made.
        overrides: ``host`` and ``port`` in place of settings.

    Raises:
        HostError: it cannot serve with several processes, or no worker can start; some did not end as they should.
    """
    settings = ServerSettings.model_validate({**manager.settings.server.model_dump(), **overrides})
    refuse_what_is_not_shared(manager.blueprint, workers)
    refuse_missing_library(manager.settings.telemetry)
    asyncio.run(Supervisor(manager, workers, settings, greet, safe_mode=safe_mode).run())


class Supervisor:
    """Holds the data folder and the sockets, and decides; it serves nothing itself."""

    def __init__(
        self, manager: AppManager, workers: int, settings: ServerSettings, greet: Greet, *, safe_mode: bool
    ) -> None:
        self._manager, self._settings, self._greet, self._safe_mode = manager, settings, greet, safe_mode
        self._accepted = messages.Accepted(manager.settings, manager.blueprint.disabled, 1)
        self._interval_s = min(settings.health_interval, _LONGEST_INTERVAL_S)
        self._silent_s = max(3 * self._interval_s, _SILENT_S)
        self._slots = [Slot(number) for number in range(1, workers + 1)]
        self._workers: set[WorkerProcess] = set()
        self._turns = Turns()
        self._stopping, self._changed = asyncio.Event(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._fault: HostError | None = None
        self._serial = self._restarts = 0
        self._starting = self._signalled = self._failures = 0
        self._served = False
        self._converging: Claim | None = None
        self._greeting: asyncio.Future[Sequence[str]] | None = None
        self._greeter: WorkerProcess | None = None
        self._told: messages.Roster | None = None

    _listeners: list[socket.socket]
    _commands: socket.socket
    _url: str
    _sockets: Path

    async def run(self) -> None:
        """Serve until a signal ends it, or nothing can.

        Raises:
            HostError: why it ended, where no signal has ended it cleanly.
        """
        folder = self._manager.folder
        folder.acquire()
        try:
            with self._listening(), self._signals():
                try:
                    await self._serve()
                finally:
                    self._stopping.set()
                    await asyncio.shield(self._end_all())
        finally:
            folder.release()
        if self._fault is not None:
            raise self._fault

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        folder, settings = self._manager.folder, self._settings
        with contextlib.ExitStack() as sockets:
            self._listeners = listen_apart(settings.host, settings.port, folder, len(self._slots))
            for listener in self._listeners:
                sockets.enter_context(listener)
            self._commands = sockets.enter_context(control_listener(folder))
            self._sockets = sockets.enter_context(sockets_of_workers(folder))
            self._url = url_of(settings, self._listeners[0])
            yield

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        handlers = {signal.SIGTERM: self._stop, signal.SIGINT: self._stop, signal.SIGHUP: self._read_anew}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    async def _serve(self) -> None:
        """Start the first worker alone, which makes what is made once; then the others."""
        self._begin(self._ask_for_ever(), "ask")
        for slot in self._slots:
            self._begin(self._keep(slot), f"worker {slot.number}")
            if slot.number == 1:
                await self._first(slot.tried.wait())
        for slot in self._slots:
            await self._first(slot.tried.wait())
        if not self._stopping.is_set():
            await self._first(self._say_greeting())
        await self._stopping.wait()

    async def _first(self, step: Coroutine[Any, Any, Any]) -> None:
        """Wait for a step, or for the end if that comes first."""
        task, end = asyncio.create_task(step), asyncio.create_task(self._stopping.wait())
        await asyncio.wait((task, end), return_when=asyncio.FIRST_COMPLETED)
        for item in (task, end):
            item.cancel()
        outcomes = await asyncio.gather(task, end, return_exceptions=True)
        if isinstance(outcomes[0], Exception):
            raise outcomes[0]

    def _begin(self, step: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(step, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the supervisor fails", exc_info=error)
            self._give_up(f"The supervisor has failed: {error!r}")

    # Workers

    async def _keep(self, slot: Slot) -> None:
        """Have a process in a slot, and another one when it ends."""
        while not self._stopping.is_set():
            try:
                worker = slot.worker = await self._start(slot.number)
            except (OSError, HostError) as error:  # no process or socket can be had just now
                slot.failed_starts += 1
                slot.tried.set()
                _log.error("a worker cannot be started and is tried again", number=slot.number, error=str(error))
                await self._pause(_NO_PROCESS_S)
                continue
            self._tell_roster()
            await _either(worker.serving, worker.left)
            if worker.serving.is_set():
                slot.tried.set()
            await worker.left.wait()
            if self._stopping.is_set():
                return
            self._restarts += 1
            served = worker.serving.is_set()
            pause_s = slot.pause_after(worker)
            if not served:
                await asyncio.shield(worker.exited)
                self._failures += 1
                if self._cannot_start():
                    self._give_up(f"No worker can start. Worker {slot.number}: {worker.told()}")
                    return
                slot.tried.set()
            _log.error(
                "a worker has ended and is replaced" if served else "a worker did not start and is tried again",
                number=slot.number,
                ended_pid=worker.pid,
                reason=worker.told(),
                pause_s=pause_s,
            )
            self._tell_roster()
            await self._pause(pause_s)

    async def _pause(self, pause_s: float) -> None:
        """Wait, but not when the host is to end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()

    def _cannot_start(self) -> bool:
        """Tell whether nobody serves, and there is no hope that somebody will."""
        if any(other.serving for other in self._slots):
            return False
        return not self._served or self._failures >= _MOST_FAILURES

    async def _start(self, number: int) -> WorkerProcess:
        self._serial += 1
        own = own_socket(self._sockets, self._serial)
        begin = messages.Begin(
            self._manager.version,
            number,
            len(self._slots),
            self._accepted,
            self._settings,
            self._safe_mode,
            messages.Sockets(
                tuple(dict.fromkeys(listener.fileno() for listener in self._listeners)),
                self._commands.fileno(),
                own.fileno(),
                self._manager.folder.lock,
            ),
            tuple(sys.path),
        )
        self._starting += 1
        try:
            worker = await WorkerProcess.start(begin, own, self._take)
        finally:
            self._starting -= 1
            if self._stopping.is_set():
                self._close_listeners()
            self._changed.set()
        self._workers.add(worker)
        worker.exited.add_done_callback(lambda _: self._gone(worker))
        if self._stopping.is_set():
            worker.tell(messages.Stop())
        return worker

    def _gone(self, worker: WorkerProcess) -> None:
        """Clear up after a worker that has ended."""
        self._workers.discard(worker)
        self._turns.forget(worker)
        holder = self._turns.holder
        if holder is not None and holder.worker is worker and holder != self._converging:
            self._begin(self._undo(holder), "undo")
        if worker is self._greeter and self._greeting is not None and not self._greeting.done():
            self._greeting.set_exception(HostError("The worker that was to greet has ended."))
        if self._stopping.is_set() and worker.exited.result() not in (0, -signal.SIGTERM):
            self._fault = self._fault or HostError(f"Worker {worker.number}: {worker.told()}")
        self._tell_roster()
        self._changed.set()

    def _take(self, worker: WorkerProcess, news: messages.News) -> None:
        match news:
            case messages.Started():
                self._admit(worker)
            case messages.Serving():
                worker.serving.set()
                self._served, self._failures = True, 0
                worker.tell(messages.Ask())
                self._changed.set()
            case messages.Greeting():
                if worker is self._greeter and self._greeting is not None and not self._greeting.done():
                    self._greeting.set_result(news.lines)
            case messages.TurnWanted():
                self._turns.want(Claim(worker, news.change), self._accepted.revision)
            case messages.Unchanged():
                if self._turns.give_up(Claim(worker, news.change)):
                    self._turns.advance(self._accepted.revision)
            case messages.Changed():
                self._converging = Claim(worker, news.change)
                self._begin(self._converge(self._converging, news), "converge")
            case messages.Followed():
                self._followed(worker, news)
            case messages.State():
                worker.health = news.health
            case messages.Leaving():
                worker.leave()
            case messages.Failed():
                worker.reason = news.reason
        self._tell_roster()

    def _admit(self, worker: WorkerProcess) -> None:
        """Let a worker serve that is as the host is by now; one that is not follows first."""
        if worker.revision == self._accepted.revision:
            worker.stage = "serving"
            self._tell_roster()
            worker.tell(messages.Serve())
        else:
            worker.tell(messages.Follow(self._accepted, None))

    # Changes

    async def _converge(self, claim: Claim, news: messages.Changed) -> None:
        """Have all others follow what one has become, and tell that one when they have, or will not."""
        self._accepted = news.accepted
        claim.worker.revision = news.accepted.revision
        patience_s = _longest_start(news.accepted.settings) + _MARGIN_S
        failed = {slot: slot.failed_starts for slot in self._slots}
        others = [
            worker
            for slot in self._slots
            if (worker := slot.worker) is not None and worker.stage == "serving" and worker is not claim.worker
        ]
        await asyncio.gather(*(self._have_follow(worker, news, patience_s) for worker in others))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while not self._converged(failed) and not self._stopping.is_set():
                    self._changed.clear()
                    await _either(self._changed, self._stopping)
        self._tell_roster()
        claim.worker.tell(messages.Converged(claim.change))
        self._converging = None
        self._turns.give_up(claim)
        self._turns.advance(self._accepted.revision)

    def _converged(self, failed: dict[Slot, int]) -> bool:
        """Tell whether all serve what was accepted last, but for those that have failed to start meanwhile."""
        return all(
            (slot.serving is not None and slot.serving.revision == self._accepted.revision)
            or slot.failed_starts > failed[slot]
            for slot in self._slots
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
        elif worker.stage == "starting":
            worker.reason = news.fault
            self._retire(worker)
        if worker.stage == "starting" and not news.fault:
            self._admit(worker)
        elif worker.following is not None and not worker.following.done():
            worker.following.set_result(news.fault)
        self._changed.set()

    def _retire(self, worker: WorkerProcess) -> None:
        """Have a worker end, and its successor start at once."""
        worker.tell(messages.Stop())
        worker.leave()
        self._begin(self._see_end(worker, self._patience_s()), f"end of worker {worker.number}")

    async def _undo(self, claim: Claim) -> None:
        """Take back what a worker has written down for a change in which it died."""
        if not self._safe_mode:
            await asyncio.to_thread(self._manager.choices.write, self._accepted.disabled)
        self._turns.give_up(claim)
        self._turns.advance(self._accepted.revision)

    def _end_stuck_change(self) -> None:
        """Kill a worker that has the turn and says nothing for so long that nobody else would ever have it."""
        holder = self._turns.holder
        patience_s = _longest_start(self._accepted.settings) + _MARGIN_S
        if holder is not None and holder != self._converging and holder.worker.is_silent(patience_s):
            _log.error("a worker is stuck in a change and is killed", number=holder.worker.number)
            holder.worker.kill()

    def _read_anew(self) -> None:
        """Have a worker read everything anew; the others follow it."""
        for slot in self._slots:
            if slot.serving is not None:
                slot.serving.tell(messages.ReadAnew())
                return
        _log.error("the host was not reloaded", error="no worker serves just now")

    # What all know

    def _tell_roster(self) -> None:
        """Tell all workers who there is, and for whom to accept connections, where that is new."""
        self._spread_connections()
        roster = messages.Roster(self._accepted.revision, tuple(map(self._peer, self._slots)), self._restarts)
        if roster != self._told:
            self._told = roster
            for worker in self._workers:
                worker.tell(roster)

    def _spread_connections(self) -> None:
        """Have somebody accept the connections of those who cannot: each worker has a listener of its own."""
        if self._stopping.is_set() or self._listeners[0] is self._listeners[-1]:
            return
        able = {
            slot.number: slot.serving
            for slot in self._slots
            if slot.serving is not None and not slot.serving.is_silent(self._silent_s)
        }
        left = frozenset(slot.number for slot in self._slots) - able.keys()
        for position, worker in enumerate(able.values()):
            numbers = left if position == 0 else frozenset()
            if worker.accepting != numbers:
                worker.accepting = numbers
                worker.tell(messages.Accept(numbers))

    def _peer(self, slot: Slot) -> messages.Peer:
        if slot.worker is not None and (slot.worker.alive or not slot.worker.left.is_set()):
            return slot.worker.peer(silent_after_s=self._silent_s)
        return messages.Peer({"worker": slot.number, "pid": None, "status": "down", "revision": 0, "health": None}, "")

    async def _ask_for_ever(self) -> None:
        """Ask all workers how they are, again and again."""
        while not self._stopping.is_set():
            for worker in self._workers:
                if worker.stage == "serving":
                    worker.tell(messages.Ask())
            self._tell_roster()
            self._end_stuck_change()
            await asyncio.sleep(self._interval_s)

    async def _say_greeting(self) -> None:
        """Have a worker make the greeting, the next one if that ends meanwhile, and print it."""
        self._manager.folder.announce(self._url)
        while True:
            greeter = self._greeter = next((slot.serving for slot in self._slots if slot.serving), None)
            if greeter is not None:
                self._greeting = asyncio.get_running_loop().create_future()
                greeter.tell(messages.Greet(self._url))
                with contextlib.suppress(HostError):
                    self._greet(await self._greeting)
                    return
            self._changed.clear()
            await self._changed.wait()

    # The end

    def _stop(self) -> None:
        """Take a signal: drain; at the second one end at once, at the third one kill what has not ended."""
        self._signalled += 1
        self._stopping.set()
        if not self._starting:  # a process that starts inherits it first
            self._close_listeners()
        for worker in self._workers:
            worker.tell(messages.Stop(at_once=self._signalled > 1))
            if self._signalled > 2:
                worker.kill()

    def _give_up(self, reason: str) -> None:
        self._fault = self._fault or HostError(reason)
        self._stopping.set()

    async def _end_all(self) -> None:
        """Have all workers end, and wait until they have."""
        for worker in self._workers:
            worker.tell(messages.Stop())
        while self._workers or self._starting:
            self._changed.clear()
            if self._workers:
                await asyncio.gather(*(self._see_end(worker, self._patience_s()) for worker in self._workers))
                await asyncio.sleep(0)  # until what has ended is forgotten
            else:
                await self._changed.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _see_end(self, worker: WorkerProcess, patience_s: float) -> None:
        """Wait until a worker has ended; kill one that does not."""
        done, _ = await asyncio.wait((worker.exited,), timeout=patience_s)
        if not done:
            _log.error("a worker does not end and is killed", number=worker.number, killed_pid=worker.pid)
            worker.kill()
            await asyncio.shield(worker.exited)

    def _patience_s(self) -> float:
        """Return how long a worker may take to drain and stop: longer than all that it waits for."""
        stops = sum(node.choice.settings.stop_timeout for node in self._manager.plan.nodes.values())
        return 3 * self._settings.drain_timeout + stops + _MARGIN_S


async def _either(*events: asyncio.Event) -> None:
    """Wait until one of several things has happened."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def _longest_start(settings: HostSettings) -> float:
    """Return how long the slowest manager may take to start, in seconds."""
    roles = settings.managers.values()
    return max((30.0, *(instance.start_timeout for role in roles for instance in (role, *role.instances.values()))))
