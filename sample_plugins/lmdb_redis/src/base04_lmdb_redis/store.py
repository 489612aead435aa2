"""The store of a folder, of which a process has one, however many managers use it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from base04_hookspecs.errors import ManagerUnavailable, OutcomeUnknown
from base04_lmdb_redis.data_file import DataFile
from base04_lmdb_redis.faults import DAMAGED, translated
from base04_lmdb_redis.lane import Job, Lane
from base04_lmdb_redis.view import View

_T = TypeVar("_T")

# LMDB's locks belong to the process: a file that is opened twice in it loses them. A host that is reloaded has the old
# manager and the new one at the same time, so they share what is here.
_open: Final[dict[tuple[str, bool], Store]] = {}
_opening: Final = threading.Lock()


class Store:
    """A file, and the thread that writes to it."""

    def __init__(self, folder: Path, size: int, *, durable: bool) -> None:
        self.folder = folder
        self.size = size
        self._durable = durable
        self.users = 0
        self.openings = 0
        """How often the file was opened; whoever listens must begin anew with each."""
        self._file: DataFile | None = None
        self.open()
        self._lane = Lane(self._commit)

    def open(self) -> None:
        """Open the file, or open it anew.

        Raises:
            ManagerUnavailable: it cannot be opened.
        """
        self._file = None  # LMDB closes it when nobody uses it any more, which is at once or after the present read
        with translated(self.folder):
            self._file = DataFile(self.folder, self.size, durable=self._durable)
        self.openings += 1

    def is_in_place(self) -> bool:
        """Tell whether the file is open and still where it was."""
        return self._file is not None and self._file.is_in_place()

    def forget_dead_readers(self) -> None:
        """Let go of the old pages that processes were reading when they were killed.

        Raises:
            ManagerUnavailable: the file cannot be used.
        """
        file = self._required()
        with self._guarded():
            file.forget_dead_readers()

    def read(self, work: Callable[[View], _T]) -> _T:
        """Do something in a transaction that changes nothing. It waits for nobody: the file is mapped into memory.

        Raises:
            ManagerUnavailable: the file cannot be used.
        """
        file = self._required()
        with self._guarded(), file.environment.begin() as transaction:
            return work(View(transaction, file.tables, _now(), self.size))

    async def write(
        self, work: Callable[[View], _T], timeout: float, afterwards: Callable[[Any], Any] | None = None
    ) -> Any:
        """Do something in a transaction, and return what it, or ``afterwards`` with that, returned.

        Raises:
            ManagerUnavailable: the file cannot be used, or other processes hold it for longer than ``timeout``.
            OutcomeUnknown: it was begun, and the disk does not answer.
        """
        job = self._lane.add(work, afterwards)
        try:
            async with asyncio.timeout(timeout):
                return await job.future
        except TimeoutError:
            if self._lane.give_up(job):
                raise ManagerUnavailable(
                    f"Another process has held the LMDB store {self.folder} for {timeout:g} s."
                ) from None
            raise OutcomeUnknown(f"The disk of the LMDB store {self.folder} has not answered in time.") from None
        except asyncio.CancelledError:
            self._lane.give_up(job)
            raise

    def close(self) -> None:
        """Do what waits to be written, and close the file."""
        self._lane.close()
        self._file = None

    def _required(self) -> DataFile:
        if self._file is None:
            raise ManagerUnavailable(f"The LMDB store {self.folder} cannot be opened just now.")
        return self._file

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Translate errors, and use a damaged file no more until it was opened anew."""
        try:
            with translated(self.folder):
                yield
        except ManagerUnavailable as error:
            if isinstance(error.__cause__, DAMAGED):
                self._file = None
            raise

    def _commit(self, jobs: list[Job], begin: Callable[[list[Job]], list[Job]]) -> list[Any]:
        file = self._required()
        with self._guarded(), file.environment.begin(write=True) as transaction:
            view = View(transaction, file.tables, _now(), self.size)
            return [job.work(view) for job in begin(jobs)]


def acquire(folder: Path, size: int, *, durable: bool) -> Store:
    """Return the store of a folder, opened by the first who asks. Blocks.

    Raises:
        ManagerUnavailable: it cannot be opened.
    """
    key = (str(folder.resolve()), durable)
    with _opening:
        store = _open.get(key)
        if store is None:
            store = _open[key] = Store(folder, size, durable=durable)
        store.users += 1
        store.size = size
        return store


def release(store: Store) -> None:
    """Close a store where this was its last user. Blocks."""
    with _opening:
        store.users -= 1
        if store.users == 0:
            for key in [key for key, each in _open.items() if each is store]:
                del _open[key]
            store.close()


def _now() -> int:
    return time.time_ns() // 1_000_000
