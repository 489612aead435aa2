"""The file, opened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import lmdb

from base04_lmdb_redis.tables import COUNT, Tables, open_tables

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_MOST_PROCESSES: Final = 1000
_SMALLEST_MAP: Final = 2**34
_MAP_PER_SIZE: Final = 4
_PRIVATE: Final = 0o600


def boot_name() -> str | None:
    """Return what is the same until the machine restarts, None where the system does not tell."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return None


class DataFile:
    """An open LMDB file.

    A file that is written without waiting for the disk survives the death of any process, but may be damaged where
    the machine itself goes down. So it bears the name of this run of the machine, and those of former runs are
    removed. ``durable`` waits for the disk and keeps one file for ever.
    """

    def __init__(self, folder: Path, size: int, *, durable: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        boot = None if durable else boot_name()
        self.path = folder / ("durable.mdb" if boot is None else f"until-reboot-{boot}.mdb")
        if boot is not None:
            _remove_others(folder, self.path)
        sync = boot is None
        self.environment = lmdb.open(
            str(self.path),
            map_size=max(_SMALLEST_MAP, _MAP_PER_SIZE * size),  # room for pages that are not free yet; takes no space
            subdir=False,
            mode=_PRIVATE,
            sync=sync,
            metasync=sync,
            max_dbs=COUNT,
            max_readers=_MOST_PROCESSES,
        )
        self.forget_dead_readers()
        self._fill_up()
        self.tables: Tables = open_tables(self.environment)
        self._identity = self._found()

    def is_in_place(self) -> bool:
        """Tell whether the path still leads to this file: somebody may have removed it."""
        return self._found() == self._identity

    def forget_dead_readers(self) -> None:
        """Let go of the old pages that processes were reading when they were killed."""
        self.environment.reader_check()

    def _found(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return (found.st_dev, found.st_ino)

    def _fill_up(self) -> None:
        """Lengthen a file that was cut off, so that reading it is an error of LMDB and not the end of the process."""
        needed = (self.environment.info()["last_pgno"] + 1) * self.environment.stat()["psize"]
        if self.path.stat().st_size < needed and hasattr(os, "posix_fallocate"):
            file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            try:
                # Unlike truncating it can never shorten the file, which others may be lengthening meanwhile.
                os.posix_fallocate(file, 0, needed)
            finally:
                os.close(file)


def _remove_others(folder: Path, present: Path) -> None:
    for path in folder.glob("until-reboot-*.mdb*"):
        if not path.name.startswith(present.name):
            path.unlink(missing_ok=True)
