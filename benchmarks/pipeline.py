"""What the pipeline costs by itself: an action run in process against one ASGI call of a FastAPI application.

Both take the same arguments, check them, call a handler that does next to nothing, and check and write the same answer
as JSON. Base04 finds the action, authorises, fills in defaults, announces and records; the time includes writing the
history to the embedded database, to its end. FastAPI is called as a server would call it, without a server.

Times are processor time of the whole process, all threads, so that nobody else's load counts.
With ``--memory`` 200,000 runs are made after some to warm up, and the growth of the process is printed.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import orjson
import uvloop
from fastapi import FastAPI
from pydantic import BaseModel, Field

from base04.app_manager import AppManager
from base04_hookspecs.context import RequestContext

PACK: Final = """
pack: greetings
version: 1.0.0
actions:
  greet:
    handler: .greet:greet
    access: public
    parameters:
      name: {type: string, minLength: 1, maxLength: 80}
      times: {type: integer, minimum: 1, maximum: 10, default: 1}
    required: [name]
    returns: {type: object, properties: {message: {type: string}}, required: [message]}
    timeout: 5s
"""
HANDLER: Final = """
async def greet(name, times):
    return {"message": f"Hello, {name}!" * times}
"""
ARGUMENTS: Final = {"name": "Ada", "times": 2}
ANSWER: Final = {"message": "Hello, Ada!Hello, Ada!"}
BATCH: Final = 5000
"""How many runs are made before the history is waited for; it takes 10,000 that wait."""

Work = Callable[[int], Awaitable[None]]

application = FastAPI()


class Greeting(BaseModel):
    """What the peer takes."""

    name: str = Field(min_length=1, max_length=80)
    times: int = Field(default=1, ge=1, le=10)


class Message(BaseModel):
    """What the peer answers."""

    message: str


@application.post("/greet")
async def greet(greeting: Greeting) -> Message:
    """Do what the action does."""
    return Message(message=f"Hello, {greeting.name}!" * greeting.times)


async def call_peer(times: int) -> None:
    """Call the FastAPI application as a server does."""
    body = orjson.dumps(ARGUMENTS)
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    answered: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            answered.append(message.get("body", b""))

    for _ in range(times):
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/greet",
            "raw_path": b"/greet",
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
            "state": {},
        }
        await application(scope, receive, send)
    assert len(answered) == times
    assert orjson.loads(answered[-1]) == ANSWER


def pipeline_calls(app: AppManager) -> Work:
    """Return what runs the action through the pipeline, and waits until all runs are in the history."""
    pipeline = app.generation.pipeline

    async def call(times: int) -> None:
        written = b""
        for number in range(times):
            context = RequestContext(
                f"request-{number}", client_ip="127.0.0.1", source="http", action="greetings.greet"
            )
            action = pipeline.find("greetings.greet")
            await pipeline.admit(action, context, ())
            written = await pipeline.run_admitted(action, ARGUMENTS, context)
        assert orjson.loads(written) == ANSWER
        await app.executions.history.written()

    return call


def named_calls(app: AppManager) -> Work:
    """Return what runs the action by name, as programs, sockets and other actions do."""
    pipeline = app.generation.pipeline

    async def call(times: int) -> None:
        result = None
        for number in range(times):
            result = await pipeline.run("greetings.greet", ARGUMENTS, RequestContext(f"request-{number}"))
        assert result == ANSWER
        await app.executions.history.written()

    return call


async def microseconds_each(work: Work, times: int) -> float:
    gc.collect()
    began = time.process_time()
    await work(times)
    return (time.process_time() - began) / times * 1e6


async def compare(app: AppManager, rounds: int, times: int) -> None:
    calls = {"bytes, as HTTP asks for them": pipeline_calls(app), "by name, as programs ask": named_calls(app)}
    found: dict[str, list[float]] = {name: [] for name in (*calls, "FastAPI")}
    for number in range(rounds + 1):
        for name, work in {**calls, "FastAPI": call_peer}.items():
            took = await microseconds_each(work, times)
            if number:  # the first round warms up
                found[name].append(took)
    for name, figures in found.items():
        print(f"{name:32} {_spread(figures)} us")
    for name in calls:
        ratios = [own / peer for own, peer in zip(found[name], found["FastAPI"], strict=True)]
        print(f"{'ratio, ' + name:32} {_spread(ratios)}")
    print(f"runs that are missing in the history: {app.executions.history.dropped}")


def _spread(figures: list[float]) -> str:
    return f"{statistics.median(figures):7.2f} [{min(figures):.2f} .. {max(figures):.2f}]"


async def measure_memory(app: AppManager, calls: int) -> None:
    work = pipeline_calls(app)
    sizes = []
    for number in range(12):
        for _ in range(calls // 10 // BATCH):
            await work(BATCH)
        gc.collect()
        if number > 0:  # what is made once, such as compiled statements, is there by now
            sizes.append(_resident_kib())
    print(f"resident memory after each of {len(sizes) - 1} times {calls // 10:,} runs: {sizes} KiB")
    print(f"growth over {calls:,} runs: {sizes[-1] - sizes[0]:+} KiB")


def _resident_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


async def main(rounds: int, times: int, memory: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "greet.yaml").write_text(PACK)
        (Path(folder) / "greet.py").write_text(HANDLER)
        settings = {
            "data_dir": f"{folder}/data",
            "log": {"level": "warning"},
            "managers": {"action_discovery": {"folders": [folder]}},
        }
        async with AppManager(settings) as app:
            if memory:
                await measure_memory(app, memory)
            else:
                await compare(app, rounds, times)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--times", type=int, default=4000, help="calls in each round")
    parser.add_argument("--memory", type=int, nargs="?", const=200_000, default=0, metavar="RUNS")
    options = parser.parse_args()
    uvloop.run(main(options.rounds, options.times, options.memory))
