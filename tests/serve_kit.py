"""What whole-host tests share: ``base04 serve`` as a process, the other commands, and distributions beside them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx2 as httpx

BASE04 = Path(sys.executable).with_name("base04")
PATIENCE_S = 30.0
"""How long anything may take before a test gives up; nothing waits for it to pass."""

NOISE = ("Warning", "never awaited", "was destroyed", "Unclosed", "Exception ignored")


def install(
    site: Path,
    name: str,
    *,
    version: str = "1.0",
    plugins: Mapping[str, str] | None = None,
    actions: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    requires: Sequence[str] = (),
) -> None:
    """Lay a distribution down in a folder as pip does: metadata, entry points, and files by their paths."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    required = "".join(f"Requires-Dist: {text}\n" for text in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{required}")
    groups = {"base04.plugins": plugins or {}, "base04.actions": actions or {}}
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups.items()]
    (info / "entry_points.txt").write_text("".join(lines))
    for path, text in (files or {}).items():
        write(site / path, text)


def write(path: Path, text: str) -> Path:
    """Write a text, without its common indentation, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def environment(site: Path | None = None, **variables: str) -> dict[str, str]:
    """Return the environment of a child: this one's, without settings of its own, with a folder to import from."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BASE04_")}
    found = [str(site)] if site is not None else []
    return {**inherited, "PYTHONPATH": os.pathsep.join(found), "PYTHONWARNINGS": "default", **variables}


def run_base04(
    *arguments: str, cwd: Path, site: Path | None = None, stdin: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [BASE04, *arguments],
        cwd=cwd,
        env=environment(site, **variables),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


class Output:
    """The lines that a process writes, as they come."""

    def __init__(self, stream: Any) -> None:
        self._lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream: Any) -> None:
        with stream:
            for line in stream:
                with self._changed:
                    self._lines.append(line)
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def text(self) -> str:
        """Everything until now."""
        with self._changed:
            return "".join(self._lines)

    def wait_for(self, part: str) -> str | None:
        """Return the first line with a part, None where the process ends, or time passes, without one."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or any(part in line for line in self._lines), PATIENCE_S)
            return next((line for line in self._lines if part in line), None)

    def wait_for_end(self) -> str:
        """Return everything, once the process has closed it."""
        self._thread.join(PATIENCE_S)
        return self.text


class Server:
    """A ``base04 serve`` of its own; leaving the ``with`` block kills it if it still runs."""

    def __init__(
        self,
        folder: Path,
        *,
        settings: str = "",
        site: Path | None = None,
        arguments: Sequence[str] = (),
        options: Sequence[str] = (),
        **variables: str,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        if settings:
            write(folder / "base04.yaml", settings)
        self._process = subprocess.Popen(
            [BASE04, *arguments, "serve", "--port", "0", *options],
            cwd=folder,
            env=environment(site, **variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.stdout, self.stderr = Output(self._process.stdout), Output(self._process.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(PATIENCE_S)
        self.stdout.wait_for_end()
        self.stderr.wait_for_end()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def url(self) -> str:
        """Where it serves; waits until it does."""
        line = self.stdout.wait_for("Base04 serves http://")
        assert line is not None, f"It does not serve:\n{self.stdout.text}{self.stderr.text[-1000:]}"
        return line.split()[-1]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, for plain sockets."""
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    @property
    def admin_key(self) -> str:
        """The key that it printed at its first start."""
        line = self.stdout.wait_for("admin key")
        assert line is not None, self.stdout.text
        return line.split()[2]

    @property
    def socket_path(self) -> Path:
        """The control socket, where the data folder is the default one."""
        return self.folder / "base04-data" / "control.sock"

    @contextlib.contextmanager
    def client(self, key: str | None = None, **headers: str) -> Iterator[httpx.Client]:
        """Return an HTTP client, with an API key where one is given."""
        shown = {"x-api-key": key} if key is not None else {}
        with httpx.Client(base_url=self.url, headers={**shown, **headers}, timeout=PATIENCE_S) as client:
            yield client

    def admin(self) -> contextlib.AbstractContextManager[httpx.Client]:
        """Return a client that may do everything."""
        return self.client(self.admin_key)

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Return its exit status, once it has ended."""
        status = self._process.wait(PATIENCE_S)
        self.stdout.wait_for_end()
        self.stderr.wait_for_end()
        return status

    def stop(self) -> int:
        """Tell it to stop, and return its exit status; its log must be JSON and hold nothing that was forgotten."""
        self.signal()
        status = self.wait()
        lines = self.stderr.text.splitlines()
        assert noise(self.stderr.text) == []
        assert [line for line in lines if not isinstance(json.loads(line), dict)] == []
        return status


def noise(text: str) -> list[str]:
    """Return the lines of a standard error that tell of something forgotten: warnings, tasks, sockets."""
    return [line for line in text.splitlines() if any(part in line for part in NOISE)]
