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

from base04.errors import HostError
from base04.server.control_socket import control_listener
from base04.server.serving import listen_apart, url_of
from base04.settings import ServerSettings
from base04.telemetry.switch import refuse_missing_library
from base04.workers import messages
from base04.workers.changes import Changes
from base04.workers.crew import Crew, either
from base04.workers.folder import own_socket, sockets_of_workers
from base04.workers.process import WorkerProcess
from base04.workers.sharing import refuse_what_is_not_shared
from base04.workers.slot import Slot

if TYPE_CHECKING:
    from base04.app_manager import AppManager

Greet = Callable[[Sequence[str]], None]
"""Called once with what the host says at its start."""

_MOST_FAILURES: Final = 5
"""After how many starts in a row that failed, of any worker, the supervisor gives up where nobody serves."""

_NO_PROCESS_S: Final = 5.0
_MARGIN_S: Final = 15.0

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
        self._crew = Crew(workers, settings.health_interval)
        self._changes = Changes(
            messages.Accepted(manager.settings, manager.blueprint.disabled, 1),
            self._crew,
            None if safe_mode else manager.choices,
            self._begin,
            self._retire,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._fault: HostError | None = None
        self._serial = self._starting = self._signalled = self._failures = 0
        self._served = False
        self._greeting: asyncio.Future[Sequence[str]] | None = None
        self._greeter: WorkerProcess | None = None

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
                    self._crew.stopping.set()
                    await asyncio.shield(self._end_all())
        finally:
            folder.release()
        if self._fault is not None:
            raise self._fault

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        folder, settings = self._manager.folder, self._settings
        with contextlib.ExitStack() as sockets:
            self._listeners = listen_apart(settings.host, settings.port, folder, len(self._crew.slots))
            for listener in self._listeners:
                sockets.enter_context(listener)
            self._commands = sockets.enter_context(control_listener(folder))
            self._sockets = sockets.enter_context(sockets_of_workers(folder))
            self._crew.listeners_apart = self._listeners[0] is not self._listeners[-1]
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
        for slot in self._crew.slots:
            self._begin(self._keep(slot), f"worker {slot.number}")
            if slot.number == 1:
                await self._first(slot.tried.wait())
        for slot in self._crew.slots:
            await self._first(slot.tried.wait())
        if not self._crew.stopping.is_set():
            await self._first(self._say_greeting())
        await self._crew.stopping.wait()

    async def _first(self, step: Coroutine[Any, Any, Any]) -> None:
        """Wait for a step, or for the end if that comes first."""
        task, end = asyncio.create_task(step), asyncio.create_task(self._crew.stopping.wait())
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
        while not self._crew.stopping.is_set():
            try:
                worker = slot.worker = await self._start(slot.number)
            except (OSError, HostError) as error:  # no process or socket can be had just now
                slot.failed_starts += 1
                slot.tried.set()
                _log.error("a worker cannot be started and is tried again", number=slot.number, error=str(error))
                await self._pause(_NO_PROCESS_S)
                continue
            self._crew.tell_roster()
            await either(worker.serving, worker.left)
            if worker.serving.is_set():
                slot.tried.set()
            await worker.left.wait()
            if self._crew.stopping.is_set():
                return
            self._crew.restarts += 1
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
            self._crew.tell_roster()
            await self._pause(pause_s)

    async def _pause(self, pause_s: float) -> None:
        """Wait, but not when the host is to end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._crew.stopping.wait()

    def _cannot_start(self) -> bool:
        """Tell whether nobody serves, and there is no hope that somebody will."""
        if self._crew.serving:
            return False
        return not self._served or self._failures >= _MOST_FAILURES

    async def _start(self, number: int) -> WorkerProcess:
        self._serial += 1
        own = own_socket(self._sockets, self._serial)
        begin = messages.Begin(
            self._manager.version,
            number,
            len(self._crew.slots),
            self._changes.accepted,
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
            if self._crew.stopping.is_set():
                self._close_listeners()
            self._crew.news.set()
        self._crew.processes.add(worker)
        worker.exited.add_done_callback(lambda _: self._gone(worker))
        if self._crew.stopping.is_set():
            worker.tell(messages.Stop())
        return worker

    def _gone(self, worker: WorkerProcess) -> None:
        """Clear up after a worker that has ended."""
        self._crew.processes.discard(worker)
        self._changes.forget(worker)
        if worker is self._greeter and self._greeting is not None and not self._greeting.done():
            self._greeting.set_exception(HostError("The worker that was to greet has ended."))
        if self._crew.stopping.is_set() and worker.exited.result() not in (0, -signal.SIGTERM):
            self._fault = self._fault or HostError(f"Worker {worker.number}: {worker.told()}")
        self._crew.tell_roster()
        self._crew.news.set()

    def _take(self, worker: WorkerProcess, news: messages.News) -> None:
        match news:
            case messages.Serving():
                worker.serving.set()
                self._served, self._failures = True, 0
                worker.tell(messages.Ask())
            case messages.Greeting():
                if worker is self._greeter and self._greeting is not None and not self._greeting.done():
                    self._greeting.set_result(news.lines)
            case messages.State():
                worker.health = news.health
            case messages.Leaving():
                worker.leave()
            case messages.Failed():
                worker.reason = news.reason
            case _:
                self._changes.take(worker, news)
        self._crew.tell_roster()
        self._crew.news.set()

    def _retire(self, worker: WorkerProcess) -> None:
        """Have a worker end, and its successor start at once."""
        worker.tell(messages.Stop())
        worker.leave()
        self._begin(self._see_end(worker, self._patience_s()), f"end of worker {worker.number}")

    # What happens while it serves

    def _read_anew(self) -> None:
        """Take SIGHUP: have a worker read everything anew; the others follow it."""
        serving = self._crew.serving
        if serving:
            serving[0].tell(messages.ReadAnew())
        else:
            _log.error("the host was not reloaded", error="no worker serves just now")

    async def _ask_for_ever(self) -> None:
        """Ask all workers how they are, again and again."""
        while not self._crew.stopping.is_set():
            self._crew.ask()
            self._crew.tell_roster()
            self._changes.end_stuck()
            await asyncio.sleep(self._crew.interval_s)

    async def _say_greeting(self) -> None:
        """Have a worker make the greeting, the next one if that ends meanwhile, and print it."""
        self._manager.folder.announce(self._url)
        while True:
            greeter = self._greeter = next(iter(self._crew.serving), None)
            if greeter is not None:
                self._greeting = asyncio.get_running_loop().create_future()
                greeter.tell(messages.Greet(self._url))
                with contextlib.suppress(HostError):
                    self._greet(await self._greeting)
                    return
            self._crew.news.clear()
            await self._crew.news.wait()

    # The end

    def _stop(self) -> None:
        """Take a signal: drain; at the second one end at once, at the third one kill what has not ended."""
        self._signalled += 1
        self._crew.stopping.set()
        if not self._starting:  # a process that starts inherits it first
            self._close_listeners()
        for worker in self._crew.processes:
            worker.tell(messages.Stop(at_once=self._signalled > 1))
            if self._signalled > 2:
                worker.kill()

    def _give_up(self, reason: str) -> None:
        self._fault = self._fault or HostError(reason)
        self._crew.stopping.set()

    async def _end_all(self) -> None:
        """Have all workers end, and wait until they have."""
        if not self._starting:
            self._close_listeners()
        self._crew.tell(messages.Stop())
        while self._crew.processes or self._starting:
            self._crew.news.clear()
            if self._crew.processes:
                await asyncio.gather(*(self._see_end(worker, self._patience_s()) for worker in self._crew.processes))
                await asyncio.sleep(0)  # until what has ended is forgotten
            else:
                await self._crew.news.wait()
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
