"""One worker as the supervisor sees it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Final, Self

from base04.workers import messages
from base04.workers.channel import Channel
from base04.workers.folder import path_of
from base04_hookspecs.app import WorkerReport
from base04_hookspecs.health import HealthStatus

_LAST_WORDS_S: Final = 2.0
"""How long to read on from a worker that has ended."""

Take = Callable[["WorkerProcess", messages.News], None]


class WorkerProcess:
    """A process from its start to its end.

    Args:
        number: which worker it is; its successor has the same.
        own: where it alone listens.
        take: called with everything that it tells.
    """

    def __init__(self, number: int, own: socket.socket, take: Take) -> None:
        self.number, self.revision = number, 0
        self.health: HealthStatus | None = None
        self.stage = "starting"
        self.reason = ""
        self.began = self.heard = time.monotonic()
        self.left, self.serving = asyncio.Event(), asyncio.Event()
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.following: asyncio.Future[str] | None = None
        self.accepting: frozenset[int] = frozenset()
        self._own, self._take = own, take
        self._socket_path = path_of(own)

    _process: asyncio.subprocess.Process
    _channel: Channel
    _life: asyncio.Task[None]

    @classmethod
    async def start(cls, begin: messages.Begin, own: socket.socket, take: Take) -> Self:
        """Start a process and tell it to begin."""
        worker = cls(begin.number, own, take)
        here, there = socket.socketpair()
        sockets = begin.sockets
        inherited = (there.fileno(), *sockets.clients, sockets.commands, sockets.own, sockets.lock)
        with there:
            try:
                worker._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", "base04.workers", str(there.fileno())),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=inherited,
                    start_new_session=True,  # what a terminal sends goes to the supervisor alone
                )
            except BaseException:
                here.close()
                own.close()
                raise
        worker._channel = await Channel.over(here)
        worker.revision = begin.accepted.revision
        worker.tell(begin)
        worker._life = asyncio.create_task(worker._live(), name=f"worker {worker.number}")
        return worker

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return not self.exited.done()

    def tell(self, order: messages.Order) -> None:
        """Send an order."""
        self._channel.send(order)

    def leave(self) -> None:
        """Count it as one that ends; a successor may begin."""
        self.stage = "draining"
        self.left.set()
        self.fail_to_follow("it ends")

    def kill(self) -> None:
        """End the process without warning."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def fail_to_follow(self, reason: str) -> None:
        """Let whoever waits for it to follow a change wait no longer."""
        if self.following is not None and not self.following.done():
            self.following.set_result(reason)

    def is_silent(self, after_s: float) -> bool:
        """Tell whether nothing was heard of it for so long, though it should serve."""
        return self.stage == "serving" and time.monotonic() - self.heard > after_s

    def peer(self, *, silent_after_s: float) -> messages.Peer:
        """Return how the others see it."""
        silent = self.is_silent(silent_after_s)
        report: WorkerReport = {
            "worker": self.number,
            "pid": self.pid,
            "status": "silent" if silent else self.stage,  # type: ignore[typeddict-item]  # the stages are among them
            "revision": self.revision,
            "health": self.health,
        }
        return messages.Peer(report, self._socket_path)

    async def _live(self) -> None:
        listening = asyncio.create_task(self._listen())
        try:
            status = await self._process.wait()
            await asyncio.wait((listening,), timeout=_LAST_WORDS_S)  # its children may hold its end open
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            await self._channel.close()
            self._own.close()
            with contextlib.suppress(OSError):
                os.unlink(self._socket_path)
        self.exited.set_result(status)
        self.leave()

    async def _listen(self) -> None:
        while (news := await self._channel.receive()) is not None:
            self.heard = time.monotonic()
            self._take(self, news)

    def told(self) -> str:
        """Say how it ended, for people."""
        if self.reason:
            return self.reason
        status = self.exited.result() if self.exited.done() else None
        if status is not None and status < 0:
            with contextlib.suppress(ValueError):
                return f"It was ended by {signal.Signals(-status).name}."
        return f"It ended with the status {status}." if status is not None else "It ends."
