"""The file that holds the secrets: checked at every open, replaced as a whole, locked between processes.

Everything here blocks, so it runs in worker threads.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from base04_hookspecs.errors import ConfigurationError, ManagerUnavailable, PermissionDenied

Secrets = dict[str, dict[str, str]]
"""Path to key to secret."""

T = TypeVar("T")

_MAX_BYTES: Final = 16 * 1024 * 1024
_READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_LOCK_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class SecretFile:
    """A JSON object of paths, keys and secrets in a file with mode 0600.

    A writer holds a lock on ``<name>.lock``, writes ``.<name>.tmp`` and renames it, so that a reader needs no lock and
    sees either the old or the new content, also when a writer dies.
    """

    def __init__(self, path: Path, *, lock_timeout: float) -> None:
        self.path = path
        self._lock_path = path.with_name(f"{path.name}.lock")
        self._new_path = path.with_name(f".{path.name}.tmp")
        self._lock_timeout = lock_timeout

    def ensure(self) -> None:
        """Check the file; make an empty one, and its folder, where there is none."""
        with self._clear_errors():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.path.lexists(self.path):
                with self._locked():
                    if not os.path.lexists(self.path):
                        self._replace({})
        self.read()

    def read(self) -> Secrets:
        """Return everything that the file holds.

        Raises:
            ConfigurationError: others can read the file, it is not a regular file of this user, or it is damaged.
            ManagerUnavailable: it cannot be read, or it has gone.
        """
        with self._clear_errors():
            return self._decoded(self._content())

    def change(self, step: Callable[[Secrets], T]) -> T:
        """Apply a step to the secrets under the lock, make the result durable, and return what the step returned."""
        with self._clear_errors(), self._locked():
            secrets = self._decoded(self._content())
            before = {path: dict(keys) for path, keys in secrets.items()}
            result = step(secrets)
            if secrets != before:
                self._replace(secrets)
            return result

    def signature(self) -> tuple[int, ...] | None:
        """Return numbers that change with the file, None where it cannot be seen."""
        try:
            found = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return None
        return (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)

    def _content(self) -> bytes:
        descriptor = os.open(self.path, _READ_FLAGS)
        try:
            self._check(os.fstat(descriptor))
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(_MAX_BYTES + 1)
        finally:
            os.close(descriptor)

    def _check(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise ConfigurationError(
                f"The secrets file {self.path} is not a regular file. Name a file, or move away what is there."
            )
        if found.st_uid != os.geteuid():
            raise ConfigurationError(
                f"The secrets file {self.path} belongs to the user {found.st_uid}, and this process runs as "
                f"{os.geteuid()}. If you trust its content, run: chown {os.geteuid()} {self.path}"
            )
        mode = stat.S_IMODE(found.st_mode)
        if mode & 0o077:
            raise ConfigurationError(
                f"The secrets file {self.path} has the mode {mode:04o}, so that others can use it; expected 0600. "
                f"Replace the secrets if others may have read them, and run: chmod 600 {self.path}"
            )

    def _decoded(self, content: bytes) -> Secrets:
        if len(content) > _MAX_BYTES:
            raise self._damaged(f"it is larger than {_MAX_BYTES} bytes")
        try:
            secrets = json.loads(content.decode(), object_pairs_hook=_unique)
        except json.JSONDecodeError as error:
            # The error carries the whole document: it is left out of the chain, so that no traceback shows a secret.
            fault = f"it is not JSON (line {error.lineno}, column {error.colno})"
        except UnicodeDecodeError:
            fault = "it is not UTF-8"
        except (_DuplicateName, RecursionError):
            fault = "it names a path or a key twice, or is nested too deeply"
        else:
            if _well_formed(secrets):
                return dict(secrets)
            fault = 'it is not of the form {"path": {"key": "secret"}}'
        raise self._damaged(fault)

    def _damaged(self, fault: str) -> ConfigurationError:
        return ConfigurationError(
            f"The secrets file {self.path} cannot be used: {fault}. Restore it from a backup, or correct it by hand."
        )

    def _replace(self, secrets: Secrets) -> None:
        content = json.dumps(secrets, indent=2, sort_keys=True).encode()
        if len(content) > _MAX_BYTES:
            raise self._damaged(f"with this change it would be larger than {_MAX_BYTES} bytes")
        with suppress(FileNotFoundError):
            self._new_path.unlink()  # left by a writer that died: the lock says that nobody is writing it now
        try:
            self._write_new(content)
            os.replace(self._new_path, self.path)
        except BaseException:
            with suppress(OSError):
                self._new_path.unlink()
            raise
        _sync_folder(self.path.parent)

    def _write_new(self, content: bytes) -> None:
        descriptor = os.open(self._new_path, _NEW_FLAGS, 0o600)
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # a umask may have taken even the owner's bits
            file.write(content)
            file.flush()
            os.fsync(descriptor)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._lock_path, _LOCK_FLAGS, 0o600)
        try:
            self._acquire(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _acquire(self, descriptor: int) -> None:
        deadline = time.monotonic() + self._lock_timeout
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise ManagerUnavailable(
                        f"The secrets file {self.path} has been locked by another process for "
                        f"{self._lock_timeout:g} seconds. See who holds {self._lock_path}."
                    ) from error
                time.sleep(0.01)
            else:
                return

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise ManagerUnavailable(
                f"The secrets file {self.path} has gone. Restore it from a backup, or start anew to have an empty one."
            ) from error
        except PermissionError as error:
            raise PermissionDenied(
                f"The secrets file {self.path} or its folder cannot be used by the user {os.geteuid()}: "
                f"{error.strerror}. Give this user the folder and the file."
            ) from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise ConfigurationError(
                    f"The secrets file {self.path} or its lock is a symbolic link, which is refused because its "
                    "target can be exchanged. Put the file itself there, or name the target in the settings."
                ) from error
            raise ManagerUnavailable(f"The secrets file {self.path} cannot be used: {error.strerror}.") from error


class _DuplicateName(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _DuplicateName
    return members


def _well_formed(secrets: object) -> bool:
    return isinstance(secrets, dict) and all(
        isinstance(keys, dict) and all(isinstance(value, str) for value in keys.values()) for keys in secrets.values()
    )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
