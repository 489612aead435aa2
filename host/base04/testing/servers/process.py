"""A server program as a child process that tests start, kill, pause and restart."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Final, Self

START_TIMEOUT_S: Final = 60.0
"""How long a server may take to answer; generous, for machines under load."""

_STOP_TIMEOUT_S: Final = 20.0
_ATTEMPTS: Final = 20


class ServerFailed(RuntimeError):
    """A server did not start; the message ends with what it printed last."""


class ServerProcess(ABC):
    """One server on ``host``; ended by the process id that it was started with, and by nothing else.

    A context manager: it starts on entry and is gone on exit, however it was left. The first start picks free ports,
    again and again until nobody else has taken them meanwhile; a restart takes the same ones.
    """

    host: str = "127.0.0.1"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """Where the server keeps its files; made where it is missing."""
        self._process: subprocess.Popen[bytes] | None = None
        self._placed = False

    @abstractmethod
    def place(self) -> None:
        """Pick ports and write what the server reads; called before each attempt of the first start."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command line."""

    @abstractmethod
    def answers(self) -> bool:
        """Tell whether this very server answers, and not another one on its port; an OSError means no."""

    @property
    def log(self) -> Path:
        """What the server prints."""
        return self.folder / "log"

    @property
    def pid(self) -> int | None:
        """The process id, None where it does not run."""
        return self._process.pid if self._process is not None else None

    @property
    def running(self) -> bool:
        """Whether the process is there, paused or not."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ServerFailed: it ended, or did not answer in time.
        """
        if self.running:
            raise RuntimeError(f"The server in {self.folder} runs already.")
        self.folder.mkdir(parents=True, exist_ok=True)
        for attempt in range(_ATTEMPTS):
            if not self._placed:
                self.place()
            if self._start_once():
                self._placed = True
                return
            if "address already in use" not in self._printed().lower():
                break
            time.sleep(0.05 * attempt)
        raise ServerFailed(f"{self.command()[0]} did not start. It printed: {self._printed()}")

    def stop(self) -> None:
        """Ask the server to end and wait for it; kill it where it does not."""
        if self.running:
            self.resume()
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server without warning, as a crash does."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill the server where it runs, and start it again on the same ports."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Stop the process in its tracks: connections stay open and nothing answers.

        The signal stops a process thread by thread, and one that still runs may answer: this returns when all stand.
        """
        process = self._required()
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let a paused process go on."""
        self._required().send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_once(self) -> bool:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )
        give_up = time.monotonic() + START_TIMEOUT_S
        try:
            while self.running and time.monotonic() < give_up:
                if self._answers():
                    return True
                time.sleep(0.01)
        except BaseException:
            self.kill()
            raise
        self.kill()
        return False

    def _answers(self) -> bool:
        try:
            return self.answers()
        except OSError:
            return False

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _required(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"The server in {self.folder} does not run.")
        return self._process

    def _printed(self) -> str:
        try:
            return self.log.read_text(errors="replace")[-2000:]
        except OSError:
            return "nothing"


def free_port() -> int:
    """Return a port that was free a moment ago; whoever binds it must be ready for another to be faster."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
