"""What plugins cost: the start with many installed, actions with many registered, and requests during a swap.

* Start: from process start to the first answered request, with 300 distributions more on the path, 50 of them plugins
  that are imported and asked for a route and an audit listener, against the same host without them.
* Actions: an action run through the ASGI application in process, on a host with 500 registered plugins and on one with
  5, in turn. The time is that of the process.
* Swap: 200 requests per second, sent when they are due whether or not earlier ones were answered, to `base04 serve`
  while its rate limiter is exchanged for another plugin's and back. The latency counts from when a request was due.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import uvloop
from start import free_port, host_command, seconds_to_first_answer, shown

from base04.app_manager import AppManager
from base04_hookspecs import hookimpl

DISTRIBUTIONS: Final = 300
PLUGINS: Final = 50
PLUGIN: Final = """
from base04_hookspecs import hookimpl
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def page(request):
    return PlainTextResponse(__name__)


async def listen(entry):
    pass


@hookimpl
def routes():
    return [Route("/" + __name__, page)]


@hookimpl
def audit_event():
    return [listen]
"""
LIMITER: Final = """
from base04_builtin.rate_limiter.gcra import GcraRateLimiterManager
from base04_hookspecs import Provider, hookimpl


class OtherLimiter(GcraRateLimiterManager):
    pass


@hookimpl
def rate_limiter_providers():
    yield Provider("other", OtherLimiter)
"""
ENVIRONMENT: Final = {name: value for name, value in os.environ.items() if not name.startswith("BASE04_")}
CALL: Final = b'{"name": "Ada"}'
RATE: Final = 200
"""Requests per second during a swap."""
CONNECTIONS: Final = 32


def lay_down(site: Path, name: str, *, module: str = "", source: str = "") -> None:
    """Write a distribution as pip leaves it; with a module it is a plugin, else it has entry points for others."""
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: base04\n")
    (info / "RECORD").write_text("".join(f"{name}/module_{number}.py,,\n" for number in range(40)))
    points = f"[base04.plugins]\n{name} = {module}\n" if module else f"[console_scripts]\n{name} = {name}.cli:main\n"
    (info / "entry_points.txt").write_text(points)
    if module:
        (site / f"{module}.py").write_text(source)


def furnished(site: Path) -> Path:
    """Fill a folder with distributions, of which some are plugins."""
    for number in range(DISTRIBUTIONS):
        name = f"acme-part-{number:03}"
        if number < PLUGINS:
            lay_down(site, name, module=f"acme_part_{number:03}", source=PLUGIN)
        else:
            lay_down(site, name)
    return site


# The start


def first_answer(folder: Path, environ: Mapping[str, str]) -> float:
    port = free_port()
    return seconds_to_first_answer(host_command(port), folder, port, "/actions/hello.greet", environ)


def measure_start(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, site = Path(name, "host"), furnished(Path(name, "site"))
        folder.mkdir()
        subprocess.run([sys.executable, "-m", "base04", "init"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        with_all = {**ENVIRONMENT, "PYTHONPATH": str(site)}
        first_answer(folder, with_all), first_answer(folder, ENVIRONMENT)  # compiled, and the data folder made
        many, none = [], []
        for _ in range(rounds):
            many.append(first_answer(folder, with_all))
            none.append(first_answer(folder, ENVIRONMENT))
    print(f"start to first answer, {rounds} rounds: median [minimum .. maximum]")
    shown(f"{DISTRIBUTIONS} distributions more, {PLUGINS} plugins", many)
    shown("none", none)
    shown("ratio", [one / other for one, other in zip(many, none, strict=True)], "x")


# Actions


def made_plugin(number: int) -> tuple[str, ModuleType]:
    name = f"acme_made_{number:03}"
    module = ModuleType(name)
    exec(compile(PLUGIN, name, "exec"), module.__dict__)  # the text above
    assert hookimpl
    return name, module


@contextlib.asynccontextmanager
async def host_with(plugins: int, folder: Path) -> AsyncIterator[AppManager]:
    settings = {
        "data_dir": folder,
        "executions": {"history": False},
        "managers": {"action_discovery": {"folders": [str(folder / "actions")]}},
    }
    actions = folder / "actions"
    actions.mkdir(parents=True)
    (actions / "hello.yaml").write_text(
        "pack: hello\nversion: 1.0.0\nactions:\n  greet:\n    handler: .greet:greet\n    access: public\n"
        "    parameters: {name: {type: string}}\n    required: [name]\n"
    )
    (actions / "greet.py").write_text("async def greet(name):\n    return {'message': f'Hello, {name}!'}\n")
    settings["managers"]["rate_limiter"] = {"limits": {"ip": "100000000/minute"}}  # type: ignore[index]  # a mapping
    async with AppManager(settings, plugins=[made_plugin(number) for number in range(plugins)]) as host:
        yield host


async def call(host: AppManager) -> None:
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(CALL))]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/actions/hello.greet",
        "raw_path": b"/actions/hello.greet",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": CALL, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await host.serve(scope, receive, send)
    if sent[0]["status"] != 200:
        raise SystemExit(f"The host answered {sent}.")


async def seconds_for(host: AppManager, calls: int) -> float:
    began = time.process_time()
    for _ in range(calls):
        await call(host)
    return (time.process_time() - began) / calls


async def measure_actions(rounds: int, calls: int = 2000) -> None:
    many: list[float] = []
    few: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        async with host_with(500, Path(name, "many")) as large, host_with(5, Path(name, "few")) as small:
            await seconds_for(large, calls), await seconds_for(small, calls)
            for number in range(rounds):
                for host, found in ((large, many), (small, few))[:: 1 if number % 2 else -1]:
                    found.append(await seconds_for(host, calls))
    print(f"an action over ASGI, {rounds} rounds of {calls}: median [minimum .. maximum]")
    shown("500 plugins", [1e6 * value for value in many], "us")
    shown("5 plugins", [1e6 * value for value in few], "us")
    shown("ratio", [one / other for one, other in zip(many, few, strict=True)], "x")


# A swap


@contextlib.contextmanager
def serving(folder: Path, site: Path) -> Iterator[tuple[int, str]]:
    """Start a host, and return its port and the key that it greets with."""
    environ = {**ENVIRONMENT, "PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "base04", "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as host:
        assert host.stdout is not None
        try:
            told = b""
            while not (found := re.search(rb"http://127\.0\.0\.1:(\d+).*(b04_\w+)", told, re.DOTALL)):
                line = host.stdout.readline()
                if not line:
                    raise SystemExit(f"The host ended: {told!r}")
                told += line
            yield int(found[1]), found[2].decode()
        finally:
            host.terminate()
            host.wait(30)


class Clients:
    """Connections that are kept open, for requests that are sent when they are due."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self.failed = 0

    async def open(self) -> None:
        for _ in range(CONNECTIONS):
            self._free.put_nowait(await asyncio.open_connection("127.0.0.1", self._port))

    async def close(self) -> None:
        while not self._free.empty():
            _, writer = self._free.get_nowait()
            writer.close()
            await writer.wait_closed()

    async def request(self, due: float) -> tuple[float, float]:
        """Call the action, and return when the request was due and how long the answer took since then."""
        reader, writer = connection = await self._free.get()
        head = f"POST /actions/hello.greet HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(CALL)}\r\n"
        writer.write(head.encode() + b"content-type: application/json\r\n\r\n" + CALL)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", answer, re.IGNORECASE)
        content = await reader.readexactly(int(length[1])) if length else b""
        if not answer.startswith(b"HTTP/1.1 200") or b"Hello, Ada!" not in content:
            self.failed += 1
        self._free.put_nowait(connection)
        return due, time.perf_counter() - due


async def change(port: int, key: str, path: str) -> tuple[float, float]:
    """Ask for a change, and return when it began and ended."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-api-key: {key}\r\n"
    writer.write(f"{head}content-length: 0\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    if not answer.startswith(b"HTTP/1.1 20"):
        raise SystemExit(f"{path} was answered {answer!r}.")
    return began, time.perf_counter()


async def swap_under_load(port: int, key: str, rounds: int, calm: float) -> None:
    clients = Clients(port)
    await clients.open()
    windows: list[tuple[float, float]] = []
    ended = asyncio.Event()

    async def swaps() -> None:
        for number in range(2 * rounds):
            await asyncio.sleep(calm)
            what = "enable" if number % 2 else "disable?swap=true"
            windows.append(await change(port, key, f"/modules/other-limiter/{what}"))
        await asyncio.sleep(calm)
        ended.set()

    def answered(request: asyncio.Task[tuple[float, float]]) -> None:
        under_way.discard(request)
        answers.append(request.result())

    swapping = asyncio.create_task(swaps())
    under_way: set[asyncio.Task[tuple[float, float]]] = set()
    answers: list[tuple[float, float]] = []
    began = time.perf_counter()
    for number in itertools.count():
        due = began + number / RATE
        if ended.is_set() or swapping.done():
            break
        await asyncio.sleep(due - time.perf_counter())
        task = asyncio.create_task(clients.request(due))
        under_way.add(task)
        task.add_done_callback(answered)
    await asyncio.gather(*under_way)
    await swapping
    await clients.close()
    usual = [took for due, took in answers if due > began + 1 and not any(a - 0.05 <= due <= b for a, b in windows)]
    during = [[took for due, took in answers if a - 0.05 <= due <= b + 0.05] for a, b in windows]
    p99 = percentile(usual)
    print(f"{len(windows)} swaps under {RATE} requests per second: {len(answers)} answers, {clients.failed} failed")
    shown("a swap takes", [b - a for a, b in windows])
    print(f"{'usual p99':<44} {1000 * p99:8.2f} ms   of {len(usual)}")
    shown("p99 during each swap", [percentile(window) for window in during])
    print(f"{'p99 of all that came during swaps':<44} {1000 * percentile(list(itertools.chain(*during))):8.2f} ms")
    shown("ratio, by swap", [percentile(window) / p99 for window in during], "x")
    print(f"{'ratio, all':<44} {percentile(list(itertools.chain(*during))) / p99:8.2f} x")


def percentile(values: list[float]) -> float:
    """Return what 99 of 100 values do not exceed."""
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def measure_swap(rounds: int, calm: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, site = Path(name, "host"), Path(name, "site")
        folder.mkdir()
        lay_down(site, "other-limiter", module="other_limiter", source=LIMITER)
        subprocess.run([sys.executable, "-m", "base04", "init"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        settings = folder / "base04.yaml"
        settings.write_text(settings.read_text().replace("600/minute", "100000000/minute"))
        with serving(folder, site) as (port, key):
            uvloop.run(swap_under_load(port, key, rounds, calm))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", choices=["start", "actions", "swap"], default=["start", "actions", "swap"])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--calm", type=float, default=2.0, help="seconds between two swaps")
    options = parser.parse_args()
    if "start" in options.part:
        measure_start(options.rounds)
    if "actions" in options.part:
        uvloop.run(measure_actions(options.rounds))
    if "swap" in options.part:
        measure_swap(options.rounds, options.calm)


if __name__ == "__main__":
    main()
