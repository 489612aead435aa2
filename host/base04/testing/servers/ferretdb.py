"""A server that speaks MongoDB's wire protocol: FerretDB on SQLite, or a ``mongod`` where there is one.

FerretDB has neither users with roles nor transactions over several documents; ``mongod`` has both, the latter in a
replica set.
"""

from __future__ import annotations

import functools
import os
import shutil
import socket
import struct
import subprocess
from pathlib import Path
from typing import Final

import pytest

from base04.testing.certificates import ThrowawayCA
from base04.testing.servers.process import ServerProcess, free_port

FERRETDB_INSTALL: Final = """
src=$(go mod download -json github.com/FerretDB/FerretDB@v1.24.0 | sed -n 's/.*"Dir": "\\(.*\\)".*/\\1/p')
tmp=$(mktemp -d) && cp -r "$src/." "$tmp" && chmod -R u+w "$tmp" && echo v1.24.0 > "$tmp/build/version/version.txt"
(cd "$tmp" && go build -buildvcs=false -o ~/go/bin/ferretdb ./cmd/ferretdb)
""".strip()
"""Builds it. ``go install`` alone makes a program that panics at its start, because it lacks its own version."""

_HELLO: Final = b"\x10isMaster\x00\x01\x00\x00\x00\x02$db\x00\x06\x00\x00\x00admin\x00\x00"


def ferretdb_program() -> str:
    """Return the path of a FerretDB that runs; skip the test where there is none."""
    for folders in (None, str(Path.home() / "go" / "bin")):
        found = shutil.which("ferretdb", path=folders)
        if found is not None and _runs(found):
            return found
    pytest.skip(f"There is no ferretdb that runs on PATH or in ~/go/bin. Build it:\n{FERRETDB_INSTALL}")


@functools.cache
def _runs(program: str) -> bool:
    """Tell whether it knows its own version: what ``go install`` makes does not, and panics."""
    return subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0


def mongod_program() -> str:
    """Return the path of mongod; skip the test where there is none."""
    found = shutil.which("mongod")
    if found is None:
        pytest.skip("There is no mongod on PATH: see https://www.mongodb.com/docs/manual/installation/")
    return found


class _MongoProcess(ServerProcess):
    """Listens on a free port; answers when it takes its own protocol's first message."""

    port: int = 0

    @property
    def url(self) -> str:
        """What a client connects to."""
        return f"mongodb://{self.host}:{self.port}/"

    def place(self) -> None:
        self.port = free_port()

    def answers(self) -> bool:
        document = struct.pack("<i", len(_HELLO) + 4) + _HELLO
        message = struct.pack("<iiiiiB", 21 + len(document), 1, 0, 2013, 0, 0) + document
        with socket.create_connection((self.host, self.port), timeout=5) as connection:
            connection.sendall(message)
            return b"maxWireVersion" in connection.recv(65_536)


class FerretDBServer(_MongoProcess):
    """FerretDB 1.24 on SQLite files in its folder; with ``ca`` it speaks TLS beside plain TCP, on ``tls_port``."""

    def __init__(self, folder: Path, *, ca: ThrowawayCA | None = None) -> None:
        super().__init__(folder)
        self.tls_port = 0
        self._program = ferretdb_program()
        self._certificate = ca.issue("ferretdb", "localhost") if ca is not None else None

    @property
    def tls_url(self) -> str:
        """What a client connects to with TLS; the certificate is for this name alone."""
        return f"mongodb://localhost:{self.tls_port}/?tls=true"

    def place(self) -> None:
        super().place()
        self.tls_port = free_port()

    def command(self) -> list[str]:
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        return [
            self._program,
            "--handler=sqlite",
            f"--sqlite-url=file:{data}/",
            f"--listen-addr={self.host}:{self.port}",
            f"--state-dir={self.folder}",
            "--debug-addr=-",
            "--telemetry=disable",
            "--log-level=WARN",
            *self._tls(),
        ]

    def _tls(self) -> list[str]:
        if self._certificate is None:
            return []
        return [
            f"--listen-tls={self.host}:{self.tls_port}",
            f"--listen-tls-cert-file={self._certificate.certificate}",
            f"--listen-tls-key-file={self._certificate.key}",
        ]


class MongodServer(_MongoProcess):
    """A ``mongod``, standing alone or the one member of a replica set, which its tests have to initiate."""

    def __init__(self, folder: Path, *, replica_set: str | None = None) -> None:
        super().__init__(folder)
        self._program = mongod_program()
        self._replica_set = replica_set

    def command(self) -> list[str]:
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        options = ["--bind_ip", self.host, "--port", str(self.port), "--dbpath", str(data), "--unixSocketPrefix"]
        options += [str(self.folder), *(("--replSet", self._replica_set) if self._replica_set else ())]
        return [self._program, *options]


def real_mongodb_url() -> str | None:
    """Return ``BASE04_TEST_MONGODB_URL``: a MongoDB whose databases named ``base04_test_*`` the tests may drop."""
    return os.environ.get("BASE04_TEST_MONGODB_URL") or None
