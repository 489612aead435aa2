"""What it costs to be watched: an action over the ASGI application, in process, with and without each way.

All variants are hosts in this process that take turns within a round; ratios are those within a round, against the host
as it is by default. "without marks" is the outermost layer of the same commit with the two lines taken out that note
where a request came from: all that is there for tracing where it is off. "without counts" counts nothing for /metrics.
The others send to a collector in a process of its own, which reads and drops what it gets; the time includes encoding
and sending, to the end: it is processor time of the whole process, all threads, so that nobody else's load counts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import inspect
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import orjson
import uvloop

from base04.app_manager import AppManager
from base04.http import stack
from base04.metrics.counts import Counts

PACK: Final = """
pack: greetings
version: 1.0.0
actions:
  greet:
    handler: .greet:greet
    access: public
    parameters: {name: {type: string, minLength: 1, maxLength: 80}}
    required: [name]
"""
HANDLER: Final = """
async def greet(name):
    return {"message": f"Hello, {name}!"}
"""
COLLECTOR: Final = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Drop(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_): pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Drop)
print(server.server_address[1], flush=True)
server.serve_forever()
"""
BODY: Final = orjson.dumps({"name": "Ada"})
ANSWER: Final = orjson.dumps({"message": "Hello, Ada!"})
AT_ONCE: Final = 200
"""Calls between two flushes: their spans fit into the queue, so that none is dropped instead of paid for."""
USUAL: Final = "as it is by default"


class NoCounts(Counts):
    """Counts nothing."""

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Do nothing."""

    def ran(self, action: str, outcome: str, seconds: float) -> None:
        """Do nothing."""


def unmarked_frame() -> type[stack.Frame]:
    """Return the outermost layer, compiled from its own source without what notes where a request came from."""
    source = textwrap.dedent(inspect.getsource(stack.Frame))
    kept = [line for line in source.splitlines() if "origin" not in line]
    assert len(source.splitlines()) - len(kept) == 2
    found = dict(vars(stack))
    exec("from __future__ import annotations\n" + "\n".join(kept), found)
    frame: type[stack.Frame] = found["Frame"]
    return frame


@contextlib.contextmanager
def collector() -> Iterator[str]:
    """Run a collector in a process of its own, and return where it is."""
    with subprocess.Popen([sys.executable, "-c", COLLECTOR], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


def variants(url: str) -> dict[str, Mapping[str, Any]]:
    """Return the settings of telemetry for each variant."""
    traces = {"endpoint": url, "logs": False}
    return {
        USUAL: {},
        "without marks": {},
        "without counts": {},
        "sampled 0": {**traces, "sample_ratio": 0.0},
        "sampled 0.1": {**traces, "sample_ratio": 0.1},
        "sampled 1.0": {**traces, "sample_ratio": 1.0},
    }


async def call(app: AppManager, times: int) -> None:
    """Run the action so many times, and deliver what there is to be sent."""
    answered: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            answered.append(message["body"])

    headers = [(b"host", b"h"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]
    for number in range(times):
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/actions/greetings.greet",
            "raw_path": b"/actions/greetings.greet",
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
        }
        await app.serve(scope, receive, send)
        if number % AT_ONCE == AT_ONCE - 1 and app.telemetry is not None:
            await asyncio.to_thread(app.telemetry.flush)
    await app.executions.history.written()
    assert answered == [ANSWER] * times


async def microseconds_each(app: AppManager, times: int) -> float:
    gc.collect()
    began = time.process_time()
    await call(app, times)
    return (time.process_time() - began) / times * 1e6


async def started(hosts: AsyncExitStack, folder: Path, name: str, telemetry: Mapping[str, Any]) -> AppManager:
    """Start the host of a variant."""
    settings = {
        "data_dir": str(folder / name.replace(" ", "-")),
        "log": {"level": "warning"},
        "managers": {
            "action_discovery": {"folders": [str(folder)]},
            "rate_limiter": {"limits": {"ip": "100000000/minute"}},
        },
        "telemetry": dict(telemetry),
    }
    app = AppManager(settings)
    if name == "without counts":
        app.counts = NoCounts()
    usual = stack.Frame
    if name == "without marks":
        stack.Frame = unmarked_frame()  # type: ignore[misc]  # until this host is built
    try:
        return await hosts.enter_async_context(app)
    finally:
        stack.Frame = usual  # type: ignore[misc]  # as above


async def scrape(app: AppManager) -> float:
    """Return the milliseconds that one ``GET /metrics`` takes."""
    from base04.metrics.exposition import exposition

    began = time.process_time()
    for _ in range(20):
        exposition(app, app.generation)
    return (time.process_time() - began) / 20 * 1e3


async def main(rounds: int, times: int) -> None:
    with tempfile.TemporaryDirectory() as name, collector() as url:
        folder = Path(name)
        (folder / "greet.yaml").write_text(PACK)
        (folder / "greet.py").write_text(HANDLER)
        async with AsyncExitStack() as hosts:
            apps = {key: await started(hosts, folder, key, value) for key, value in variants(url).items()}
            found: dict[str, list[float]] = {key: [] for key in apps}
            for number in range(rounds + 1):
                for key, app in apps.items():
                    took = await microseconds_each(app, times)
                    if number:  # the first round warms up
                        found[key].append(took)
            for key, figures in found.items():
                ratios = [own / usual for own, usual in zip(figures, found[USUAL], strict=True)]
                print(f"{key:20} {_spread(figures, 1)} us   ratio {_spread(ratios, 3)}")
            print(f"{'GET /metrics':20} {await scrape(apps[USUAL]):.1f} ms")
            for key, app in apps.items():
                for delivery in app.telemetry.deliveries if app.telemetry is not None else ():
                    print(f"{key}: {delivery.delivered} spans delivered, {delivery.lost} lost")


def _spread(figures: list[float], digits: int) -> str:
    return f"{statistics.median(figures):.{digits}f} [{min(figures):.{digits}f} .. {max(figures):.{digits}f}]"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--times", type=int, default=2000, help="calls in each round")
    options = parser.parse_args()
    uvloop.run(main(options.rounds, options.times))
