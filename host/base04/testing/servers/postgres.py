"""A real PostgreSQL server, from the system's packages or from the wheel ``pgserver``."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import itertools
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest

from base04.testing.certificates import ThrowawayCA
from base04.testing.servers.process import ServerProcess, free_port

SUPERUSER: Final = "postgres"

_INSTALL: Final = "run 'apt-get install postgresql' or 'pip install pgserver'"
_END_TIMEOUT_S: Final = 30.0


def postgres_programs(*, tls: bool = False) -> Path:
    """Return the folder of PostgreSQL's programs; skip the test where there is none that will do.

    Those on PATH come first, then the newest of Debian's packages, then those of the wheel ``pgserver``.
    """
    for folder in _folders():
        if not tls or _has_tls(folder):
            return folder
    pytest.skip(f"There is no PostgreSQL{' with TLS' if tls else ''}: {_INSTALL}")


class PostgresServer(ServerProcess):
    """One server on TCP, with a superuser whose password is new each time.

    It keeps its files in a folder of its own, which is removed at the end: the server refuses to run as root, and the
    user that it runs as then cannot reach the folders of tests. Each server starts from a copy of one fresh cluster.

    Args:
        fsync: whether it writes to the disk before it answers; off, a restart after a crash of the system loses data,
            one after ``kill`` does not.
        ca: accepts connections over TLS alone, with a certificate of this authority for ``localhost``.
        tls_host: the host name in that certificate.
        options: further settings of ``postgresql.conf``.
    """

    def __init__(
        self,
        *,
        fsync: bool = False,
        ca: ThrowawayCA | None = None,
        tls_host: str = "localhost",
        options: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(_private_folder())
        self.port = 0
        self.ca = ca
        self._programs = postgres_programs(tls=ca is not None)
        self._tls_host = tls_host
        self._numbers = itertools.count()
        template, self.password = _template(self._programs)
        self._data = self.folder / "data"
        subprocess.run(["cp", "-a", str(template), str(self._data)], check=True)
        self._options = {
            "listen_addresses": self.host,
            "unix_socket_directories": "",
            "max_connections": "60",
            "shared_buffers": "16MB",
            "dynamic_shared_memory_type": "mmap",
            "fsync": "on" if fsync else "off",
            "synchronous_commit": "on",
            "log_statement": "none",
            **(options or {}),
        }

    @property
    def url(self) -> str:
        """What the superuser connects to; it holds the password."""
        return self.url_of("postgres")

    def url_of(self, database: str, user: str = SUPERUSER, password: str | None = None) -> str:
        """Return the URL of a database for a user, the superuser unless another is named."""
        host = self._tls_host if self.ca else self.host
        return f"postgresql://{user}:{quote(password or self.password)}@{host}:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it answers; remove its files where it never does."""
        try:
            super().start()
        except BaseException:
            if not self._placed:
                shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def place(self) -> None:
        self.port = free_port()
        lines = [f"{name} = '{value}'" for name, value in (self._options | {"port": str(self.port)}).items()]
        if self.ca is not None:
            lines += self._tls_lines(self.ca)
        (self._data / "postgresql.conf").write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        return [*_unprivileged(), str(self._programs / "postgres"), "-D", str(self._data)]

    def answers(self) -> bool:
        lines = (self._data / "postmaster.pid").read_text().split("\n")
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def stop(self) -> None:
        """Shut down as fast as is safe, and remove the files."""
        if self.running:
            self.resume()
        self._end(signal.SIGINT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """End all processes of the server without warning, as a crash does; its files stay for the next start."""
        children = self._children() if self.running else []
        for pid in children:
            _signal(pid, signal.SIGKILL)
        self._end(signal.SIGKILL)
        give_up = time.monotonic() + _END_TIMEOUT_S
        while any(_alive(pid) for pid in children) and time.monotonic() < give_up:
            time.sleep(0.01)

    def pause(self) -> None:
        """Stop all processes of the server in their tracks."""
        super().pause()
        for pid in self._children():
            _signal(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let paused processes go on."""
        for pid in self._children():
            _signal(pid, signal.SIGCONT)
        super().resume()

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run statements as superuser and return what they print, without headings."""
        done = subprocess.run(
            [str(self._programs / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement],
            env=os.environ
            | {
                "PGHOST": self.host,
                "PGPORT": str(self.port),
                "PGUSER": SUPERUSER,
                "PGPASSWORD": self.password,
                "PGDATABASE": database,
            },
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
        )
        if done.returncode != 0:
            raise RuntimeError(f"psql failed: {done.stderr}")
        return done.stdout.strip()

    def create_database(self, options: str = "") -> str:
        """Make an empty database and return its name; ``options`` are those of ``CREATE DATABASE``."""
        name = f"test_{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name} {options}")
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is still connected to it."""
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _tls_lines(self, ca: ThrowawayCA) -> list[str]:
        issued = ca.issue(f"postgres-{self.folder.name}", self._tls_host)
        names = []
        for source in (issued.certificate, issued.key):
            target = self._data / source.name
            shutil.copyfile(source, target)
            target.chmod(0o600)
            _hand_over(target)
            names.append(target.name)
        (self._data / "pg_hba.conf").write_text("hostssl all all all scram-sha-256\nhostnossl all all all reject\n")
        return ["ssl = on", f"ssl_cert_file = '{names[0]}'", f"ssl_key_file = '{names[1]}'"]

    def _children(self) -> list[int]:
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
        pairs = (line.split() for line in listed.stdout.splitlines())
        return [int(pid) for pid, parent in pairs if int(parent) == self.pid]


def _folders() -> Iterator[Path]:
    on_path = shutil.which("postgres")
    if on_path is not None:
        yield Path(on_path).resolve().parent
    packaged = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    for program in sorted(packaged, key=lambda path: int(path.parts[-3]), reverse=True):
        yield program.parent
    wheel = importlib.util.find_spec("pgserver")
    if wheel is not None and wheel.origin is not None:
        folder = Path(wheel.origin).parent / "pginstall" / "bin"
        if (folder / "postgres").exists():
            yield folder


@functools.cache
def _has_tls(folder: Path) -> bool:
    done = subprocess.run([str(folder / "pg_config"), "--configure"], capture_output=True, text=True, check=False)
    return "with-ssl" in done.stdout or "with-openssl" in done.stdout


@functools.cache
def _template(programs: Path) -> tuple[Path, str]:
    """Make a cluster, once in a process, and return its folder and the superuser's password."""
    folder = _private_folder()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    password = f"canary-{secrets.token_hex(8)}"
    password_file = folder / "password"
    password_file.write_text(password)
    _hand_over(password_file)
    subprocess.run(
        [
            *_unprivileged(),
            str(programs / "initdb"),
            f"--pgdata={folder / 'data'}",
            f"--username={SUPERUSER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=folder,
    )
    return folder / "data", password


def _unprivileged() -> list[str]:
    """Return what a command line begins with, so that it does not run as root."""
    account = _account()
    if account is None:
        return []
    return ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups", "--"]


@functools.cache
def _account() -> pwd.struct_passwd | None:
    """Return who is to run the server where the tests run as root."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("PostgreSQL does not run as root, and there is neither a user 'postgres' nor 'nobody'.")


def _private_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="base04-postgres-"))
    _hand_over(folder)
    return folder


def _hand_over(path: Path) -> None:
    account = _account()
    if account is not None:
        os.chown(path, account.pw_uid, account.pw_gid)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
