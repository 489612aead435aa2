"""Events to one room: `base04 serve` against python-socketio, and against a bare Starlette loop that sends one text.

The clients (500) are in one room, to which the server sends messages (200) of 200 bytes of data. The time is from when
the server is told to begin until the last client has got the last message. Base04 counts the messages, keeps them for
clients that come back, and bounds what waits for each client; the loop does nothing but send. Memory is what the
process grows by for each connection that does nothing.

All are served by uvicorn with uvloop, httptools, websockets-sansio and no per-message deflate, pinned to one processor,
and the clients to another. They take turns; ratios are those within a round. With `--redis` the rooms of Base04 are
shared through a redis-server.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import uvloop

from base04.testing.servers.redis import RedisServer

BARE: Final = """
import json

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

members = set()


async def endpoint(websocket):
    await websocket.accept()
    members.add(websocket)
    await websocket.send_text("ready")
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect:
        members.discard(websocket)


async def burst(request):
    order = await request.json()
    for number in range(order["messages"]):
        last = number == order["messages"] - 1
        data = {"n": number, "text": "x" * order["size"], "mark": "the last one" if last else ""}
        text = json.dumps({"type": "event", "room": "news", "event": "tick", "data": data})
        for member in tuple(members):
            await member.send_text(text)
    return JSONResponse({})


app = Starlette(routes=[WebSocketRoute("/ws", endpoint), Route("/burst", burst, methods=["POST"])])
"""
SOCKETIO: Final = """
import socketio
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

sio = socketio.AsyncServer(async_mode="asgi", ping_interval=600)


@sio.event
async def connect(sid, environ):
    await sio.enter_room(sid, "news")


async def burst(request):
    order = await request.json()
    for number in range(order["messages"]):
        last = number == order["messages"] - 1
        data = {"n": number, "text": "x" * order["size"], "mark": "the last one" if last else ""}
        await sio.emit("tick", data, room="news")
    return JSONResponse({})


app = Starlette(routes=[Route("/burst", burst, methods=["POST"]), Mount("/", socketio.ASGIApp(sio))])
"""
PACK: Final = """
pack: bench
version: 1.0.0
actions:
  burst:
    summary: Send messages to a room
    handler: .handlers:burst
    access: public
    parameters:
      messages: {type: integer}
      size: {type: integer}
    required: [messages, size]
    timeout: 120s
"""
HANDLERS: Final = """
from base04_hookspecs.websocket import WebSocketManager


async def burst(messages: int, size: int, websocket: WebSocketManager) -> None:
    for number in range(messages):
        data = {"n": number, "text": "x" * size, "mark": "the last one" if number == messages - 1 else ""}
        await websocket.emit_to_room("news", "tick", data)
"""
MARK: Final = b"the last one"
GIVE_UP_S: Final = 180.0


class Running(NamedTuple):
    """A server: its process, where it is told to begin, and how a client gets into the room."""

    pid: int
    port: int
    burst: str
    path: str
    headers: str
    hello: tuple[bytes, ...]
    joined: bytes


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def started(command: list[str], folder: Path, cpu: int, port: int) -> Iterator[int]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(["taskset", "-c", str(cpu), *command], cwd=folder, stdout=log, stderr=log)
    try:
        began = time.monotonic()
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            if process.poll() is not None or time.monotonic() - began > GIVE_UP_S:
                raise SystemExit((folder / "log").read_text()[-2000:])
            time.sleep(0.02)
        yield process.pid
    finally:
        process.kill()
        process.wait(20)


@contextlib.contextmanager
def base04(folder: Path, cpu: int, redis: str | None) -> Iterator[Running]:
    port = free_port()
    (folder / "actions").mkdir(parents=True)
    (folder / "actions" / "bench.yaml").write_text(PACK)
    (folder / "actions" / "handlers.py").write_text(HANDLERS)
    managers: dict[str, Any] = {
        "action_discovery": {"folders": ["actions"]},
        "rate_limiter": {"limits": {"ip": "100000000/minute", "user": "100000000/minute"}},
    }
    if redis is not None:
        managers["redis"] = {"provider": "server", "server": {"url": redis}}
    (folder / "base04.yaml").write_text(json.dumps({"server": {"port": port}, "managers": managers}))  # JSON is YAML
    program = [sys.executable, "-m", "base04"]
    create = [*program, "keys", "create", "--user", "bench"]
    key = subprocess.run(create, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
    with started([*program, "serve"], folder, cpu, port) as pid:
        token = json.loads(asyncio.run(asked(port, "/auth/token", b"", f"x-api-key: {key}\r\n")))["access_token"]
        hello = (frame(b'{"type": "join", "room": "news", "id": 1}'),)
        yield Running(pid, port, "/actions/bench.burst", "/ws", f"authorization: Bearer {token}\r\n", hello, b'"ack"')


@contextlib.contextmanager
def peer(folder: Path, cpu: int, source: str) -> Iterator[Running]:
    port = free_port()
    folder.mkdir(parents=True)
    (folder / "peer.py").write_text(source)
    options = ["--port", str(port), "--loop", "uvloop", "--http", "httptools", "--ws", "websockets-sansio"]
    options += [
        "--ws-ping-interval",
        "600",
        "--ws-per-message-deflate",
        "false",
        "--no-access-log",
        "--log-level",
        "warning",
    ]
    with started([sys.executable, "-m", "uvicorn", "peer:app", *options], folder, cpu, port) as pid:
        if source is SOCKETIO:
            yield Running(
                pid, port, "/burst", "/socket.io/?EIO=4&transport=websocket", "", (frame(b"40"),), b'40{"sid"'
            )
        else:
            yield Running(pid, port, "/burst", "/ws", "", (), b"ready")


def frame(payload: bytes) -> bytes:
    """Return a masked text frame, the mask being zero (RFC 6455, section 5.2)."""
    return struct.pack("!BB4x", 0x81, 0x80 | len(payload)) + payload


async def asked(port: int, path: str, body: bytes, headers: str = "") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n{headers}"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    answer = await reader.read()
    writer.close()
    head_of_answer, _, rest = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head_of_answer.partition(b"\r\n")[0]:
        raise SystemExit(answer.decode())
    return rest


class Client(asyncio.Protocol):
    """A connection that looks for one text at a time, and at nothing else."""

    def __init__(self, server: Running) -> None:
        self._server = server
        self._wanted = b""
        self._tail = b""
        self._found: asyncio.Future[None] | None = None
        self.bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's derives from none of asyncio's
        self.transport.write(
            f"GET {self._server.path} HTTP/1.1\r\nhost: 127.0.0.1:{self._server.port}\r\nupgrade: websocket\r\n"
            f"connection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"{self._server.headers}\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        if self._found is None or self._found.done():
            self._tail += data
            return
        seen = self._tail + data
        if self._wanted in seen:
            self._tail = seen.partition(self._wanted)[2]
            self._found.set_result(None)
        else:
            self._tail = seen[-len(self._wanted) :]

    def connection_lost(self, exc: Exception | None) -> None:
        if self._found is not None and not self._found.done():
            self._found.set_exception(exc or ConnectionError(f"{self._server.path} was closed"))

    def find(self, text: bytes) -> asyncio.Future[None]:
        """Return what is done when a text has come."""
        self._wanted = text
        self._found = asyncio.get_running_loop().create_future()
        self.data_received(b"")
        return self._found

    async def enter(self) -> None:
        await self.find(b"\r\n\r\n")
        for hello in self._server.hello:
            self.transport.write(hello)
        await self.find(self._server.joined)
        self._tail = b""


async def connected(server: Running, number: int) -> list[Client]:
    clients: list[Client] = []
    async with asyncio.timeout(GIVE_UP_S):
        while len(clients) < number:
            clients += await asyncio.gather(*(connect(server) for _ in range(min(50, number - len(clients)))))
    return clients


async def connect(server: Running) -> Client:
    _, client = await asyncio.get_running_loop().create_connection(lambda: Client(server), "127.0.0.1", server.port)
    await client.enter()
    return client


async def deliveries(server: Running, clients: int, messages: int, size: int) -> float:
    """Return how many messages a second came to clients."""
    room = await connected(server, clients)
    order = json.dumps({"messages": messages, "size": size}).encode()
    for client in room:
        client._tail = b""
    found = [client.find(MARK) for client in room]
    began = time.perf_counter()
    async with asyncio.timeout(GIVE_UP_S):
        burst = asyncio.create_task(asked(server.port, server.burst, order))
        await asyncio.gather(*found)
    lasted = time.perf_counter() - began
    await burst
    for client in room:
        if client.bytes < messages * size:
            raise SystemExit(f"A client got only {client.bytes} bytes.")
        client.transport.close()
    await asyncio.sleep(0.5)
    return clients * messages / lasted


def resident(pid: int) -> int:
    """Return how many bytes of memory a process uses."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def memory(server: Running, connections: int) -> float:
    """Return by how many KiB the server grew for each connection; some come first, so that it has all its code."""
    first = await connected(server, 50)
    await asyncio.sleep(0.5)
    before = resident(server.pid)
    idle = await connected(server, connections)
    await asyncio.sleep(0.5)
    grown = resident(server.pid) - before
    for client in (*first, *idle):
        client.transport.close()
    return grown / connections / 1024


def shown(name: str, values: list[float], form: str, unit: str) -> None:
    low, middle, high = min(values), statistics.median(values), max(values)
    print(f"{name:<36} {middle:>9{form}} {unit}  [{low:{form}} .. {high:{form}}]")


def ratios(name: str, ours: list[float], theirs: list[float]) -> None:
    shown(f"Base04 to {name}", [a / b for a, b in zip(ours, theirs, strict=True)], ".2f", "x")


@contextlib.contextmanager
def servers(folder: Path, cpu: int, *, on_redis: bool) -> Iterator[dict[str, Running]]:
    with contextlib.ExitStack() as stack:
        redis = None
        if on_redis:
            (folder / "redis").mkdir(parents=True)
            redis = stack.enter_context(RedisServer(folder / "redis")).url
        yield {
            "Base04": stack.enter_context(base04(folder / "host", cpu, redis)),
            "python-socketio": stack.enter_context(peer(folder / "socketio", cpu, SOCKETIO)),
            "bare Starlette": stack.enter_context(peer(folder / "bare", cpu, BARE)),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--messages", type=int, default=200)
    parser.add_argument("--size", type=int, default=150, help="of the text in a message, in bytes")
    parser.add_argument("--connections", type=int, default=1000, help="idle ones, for the memory")
    parser.add_argument("--cpu", type=int, default=0, help="where the servers run")
    parser.add_argument("--client-cpu", type=int, default=1, help="where the clients run")
    parser.add_argument("--redis", action="store_true", help="rooms on a redis-server")
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.client_cpu})
    rates: dict[str, list[float]] = {}
    sizes: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        with servers(Path(folder) / "speed", options.cpu, on_redis=options.redis) as running:
            for _ in range(options.rounds):
                for name, server in running.items():
                    rate = uvloop.run(deliveries(server, options.clients, options.messages, options.size))
                    rates.setdefault(name, []).append(rate)
        for number in range(min(3, options.rounds)):
            with servers(Path(folder) / f"memory{number}", options.cpu, on_redis=options.redis) as running:
                for name, server in running.items():
                    sizes.setdefault(name, []).append(uvloop.run(memory(server, options.connections)))
    print(f"{options.clients} clients, {options.messages} messages, {options.rounds} rounds: median [min .. max]")
    for name, values in rates.items():
        shown(name, values, ".0f", "deliveries/s")
    for name in ("python-socketio", "bare Starlette"):
        ratios(name, rates["Base04"], rates[name])
    print(f"memory for each of {options.connections} idle connections")
    for name, values in sizes.items():
        shown(name, values, ".1f", "KiB")
    for name in ("python-socketio", "bare Starlette"):
        ratios(name, sizes["Base04"], sizes[name])


if __name__ == "__main__":
    main()
