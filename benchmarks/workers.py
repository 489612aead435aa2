"""One action over HTTP with one worker and with several, on one Redis and one SQLite file: what more processes bring.

`wrk` asks a public action whose parameters are validated and whose limits are counted on Redis. The hosts take turns;
ratios are those within a round. Give the machine more processors than workers: `wrk` and Redis need some as well. What
a request costs in time of the processor, over all processes of a host, tells more where there are none to spare.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from base04.testing.servers.redis import RedisServer

PACK: Final = """
pack: bench
version: 1.0.0
actions:
  greet:
    summary: Greet somebody
    handler: .handlers:greet
    access: public
    parameters: {name: {type: string, minLength: 1, maxLength: 80}}
    required: [name]
"""
HANDLERS: Final = """
async def greet(name: str) -> dict[str, str]:
    return {"message": f"Hello, {name}!"}
"""
BODY: Final = '{"name": "Ada"}'
PATH: Final = "/actions/bench.greet"
GIVE_UP_S: Final = 60.0


class Load(NamedTuple):
    """Requests per second, and microseconds of the processor for each."""

    rate: float
    cost: float


class Host:
    """A running ``base04 serve``."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port = process, port

    def answers(self) -> bool:
        """Tell whether it runs the action."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=GIVE_UP_S)
        try:
            connection.request("POST", PATH, BODY, {"content-type": "application/json"})
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def processor_seconds(self) -> float:
        """Return how long all its processes have computed."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return sum(map(_computed, [str(pid), *children]))


def _computed(pid: str) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def started(folder: Path, workers: int, redis: str) -> Iterator[Host]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (folder / "actions").mkdir(parents=True)
    (folder / "actions" / "bench.yaml").write_text(PACK)
    (folder / "actions" / "handlers.py").write_text(HANDLERS)
    managers = {
        "action_discovery": {"folders": ["actions"]},
        "rate_limiter": {"limits": {"ip": "100000000/minute"}},
        "redis": {"provider": "server", "server": {"url": redis}},
    }
    settings = {"server": {"port": port, "workers": workers}, "executions": {"history": False}, "managers": managers}
    (folder / "base04.yaml").write_text(json.dumps(settings))  # JSON is YAML
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "base04", "serve"], cwd=folder, stdout=subprocess.PIPE, stderr=log
        )
    assert process.stdout is not None
    try:
        if not process.stdout.readline().startswith(b"Base04 serves"):  # all workers serve
            raise SystemExit((folder / "log").read_text()[-2000:])
        yield Host(process, port)
    finally:
        process.terminate()
        process.communicate(timeout=GIVE_UP_S)


def load(host: Host, script: Path, seconds: float, connections: int) -> Load:
    """Ask a host as fast as it answers; every answer must be a success."""
    script.write_text(f"wrk.method = 'POST'\nwrk.body = '{BODY}'\nwrk.headers['content-type'] = 'application/json'\n")
    url = f"http://127.0.0.1:{host.port}{PATH}"
    options = ["-t", "1", "-c", str(connections), "-d", f"{max(1, round(seconds))}s", "-s", str(script), url]
    began = host.processor_seconds()
    told = subprocess.run(["wrk", *options], check=True, capture_output=True, text=True).stdout
    computed = host.processor_seconds() - began
    rate, answered = re.search(r"Requests/sec:\s+([\d.]+)", told), re.search(r"(\d+) requests in", told)
    if "Non-2xx" in told or "Socket errors" in told or rate is None or answered is None:
        raise SystemExit(told)
    return Load(float(rate[1]), computed / int(answered[1]) * 1e6)


def shown(name: str, values: list[float], unit: str) -> None:
    low, middle, high = min(values), statistics.median(values), max(values)
    form = ".2f" if unit == "x" else ".0f"
    print(f"{name:<28} {middle:9{form}} {unit}   [{low:{form}} .. {high:{form}}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[2], help="compared with one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("This needs 'wrk': apt-get install wrk")
    numbers = list(dict.fromkeys([1, *options.workers]))
    found: dict[int, list[Load]] = {number: [] for number in numbers}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(RedisServer(folder / "redis"))
        hosts = {
            number: stack.enter_context(started(folder / f"host-{number}", number, redis.url)) for number in numbers
        }
        for host in hosts.values():
            if not host.answers():
                raise SystemExit("A host does not run the action.")
            load(host, folder / "wrk.lua", 1, options.connections)
        for _ in range(options.rounds):
            for number, host in hosts.items():
                found[number].append(load(host, folder / "wrk.lua", options.seconds, options.connections))
    for number, loads in found.items():
        shown(f"{number} workers", [one.rate for one in loads], "req/s")
        shown(f"{number} workers, processor", [one.cost for one in loads], "us")
        if number != 1:
            pairs = list(zip(loads, found[1], strict=True))
            shown(f"{number} workers to 1", [many.rate / one.rate for many, one in pairs], "x")


if __name__ == "__main__":
    main()
