"""From process start to the first answered request: `base04 serve` in the embedded default against bare FastAPI.

Both run under uvicorn with uvloop and httptools, validate one JSON body and answer JSON. Base04 starts in a folder
that it has started in before, and, as a figure of its own, in an empty one, where it makes its keys and tables.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

PEER = """
from fastapi import FastAPI
from pydantic import BaseModel, Field

app = FastAPI()


class Greeting(BaseModel):
    name: str = Field(min_length=1, max_length=80)


@app.post("/greet")
async def greet(body: Greeting) -> dict[str, str]:
    return {"message": f"Hello, {body.name}!"}
"""
BODY = '{"name": "Ada"}'
GIVE_UP_S = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def started(command: list[str], folder: Path, environ: Mapping[str, str] | None) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def seconds_to_first_answer(
    command: list[str], folder: Path, port: int, path: str, environ: Mapping[str, str] | None = None
) -> float:
    began = time.perf_counter()
    with started(command, folder, environ) as process:
        while time.perf_counter() - began < GIVE_UP_S:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVE_UP_S)
            try:
                connection.request("POST", path, BODY, {"content-type": "application/json"})
                answer = connection.getresponse()
                content = answer.read()
            except OSError:
                if process.poll() is not None:
                    raise SystemExit(f"{command} ended with {process.returncode}.") from None
                time.sleep(0.002)
                continue
            finally:
                connection.close()
            if answer.status != 200 or b"Hello, Ada!" not in content:
                raise SystemExit(f"{command} answered {answer.status}: {content!r}")
            return time.perf_counter() - began
    raise SystemExit(f"{command} did not answer within {GIVE_UP_S:g} s.")


def host_command(port: int) -> list[str]:
    return [sys.executable, "-m", "base04", "serve", "--port", str(port)]


def peer_command(port: int) -> list[str]:
    options = ["--host", "127.0.0.1", "--port", str(port), "--loop", "uvloop", "--http", "httptools"]
    return [sys.executable, "-m", "uvicorn", "peer:app", "--no-access-log", "--log-level", "warning", *options]


def first_answer_of_host(folder: Path) -> float:
    port = free_port()
    return seconds_to_first_answer(host_command(port), folder, port, "/actions/hello.greet")


def first_answer_of_peer(folder: Path) -> float:
    port = free_port()
    return seconds_to_first_answer(peer_command(port), folder, port, "/greet")


def shown(name: str, values: list[float], unit: str = "ms") -> None:
    scale = 1000 if unit == "ms" else 1
    low, middle, high = (scale * value for value in (min(values), statistics.median(values), max(values)))
    print(f"{name:<44} {middle:8.2f} {unit}   [{low:.2f} .. {high:.2f}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "peer.py").write_text(PEER)
        subprocess.run([sys.executable, "-m", "base04", "init"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        first_answer_of_host(folder), first_answer_of_peer(folder)  # compiled, and the data folder made
        hosts, peers, fresh = [], [], []
        for _ in range(rounds):
            hosts.append(first_answer_of_host(folder))
            peers.append(first_answer_of_peer(folder))
            shutil.rmtree(folder / "base04-data")
            fresh.append(first_answer_of_host(folder))
    print(f"start to first answer, {rounds} rounds: median [minimum .. maximum]")
    shown("base04 serve, started here before", hosts)
    shown("base04 serve, empty folder", fresh)
    shown("FastAPI", peers)
    shown("ratio", [host / peer for host, peer in zip(hosts, peers, strict=True)], "x")
    shown("ratio, empty folder", [host / peer for host, peer in zip(fresh, peers, strict=True)], "x")


if __name__ == "__main__":
    main()
