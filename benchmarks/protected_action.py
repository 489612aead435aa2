"""One protected action over HTTP: Base04 against FastAPI doing the same work, and against bare JSON in Starlette.

The work: a token verified (HS256) and looked up among the revoked ones, three rate limits counted (address, user,
action), parameters validated, JSON answered. FastAPI does it with PyJWT, `limits` and pydantic; of the strategies of
`limits` this is the cheapest, since the cost of the moving window grows with the calls of the last minute. The bare
endpoint reads JSON and writes JSON and does nothing else. With `--redis`, limits and revocations are on one
redis-server.

All are served by uvicorn with uvloop, httptools and without an access log, pinned to one processor; `wrk` is pinned to
another. They take turns; ratios are those within a round. Where others compute on the same machine, the ratio of what a
request costs in time of the processor is steadier than that of requests per second.
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
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from base04.testing.servers.redis import RedisServer

FASTAPI: Final = """
import os
import time
from typing import Annotated

import jwt
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from limits import RateLimitItemPerMinute
from pydantic import BaseModel, Field

SECRET = "0123456789abcdef0123456789abcdef"
URL = os.environ.get("PEER_REDIS")
LIMIT = RateLimitItemPerMinute(100_000_000)
app = FastAPI()

if URL:
    from limits.aio.storage import RedisStorage
    from limits.aio.strategies import FixedWindowRateLimiter
    from redis.asyncio import Redis

    limiter = FixedWindowRateLimiter(RedisStorage("async+" + URL, implementation="redispy"))
    redis = Redis.from_url(URL)

    async def revoked(jti):
        return await redis.exists("revoked:" + jti)

    async def allowed(level, who):
        return await limiter.hit(LIMIT, level, who)

else:
    from limits.storage import MemoryStorage
    from limits.strategies import FixedWindowRateLimiter

    limiter = FixedWindowRateLimiter(MemoryStorage())
    revocations = set()

    async def revoked(jti):
        return jti in revocations

    async def allowed(level, who):
        return limiter.hit(LIMIT, level, who)


class Greeting(BaseModel):
    name: str = Field(min_length=1, max_length=80)
    times: int = Field(default=1, ge=1, le=10)


class Answer(BaseModel):
    message: str


async def caller(authorization: Annotated[str, Header()]):
    scheme, _, token = authorization.partition(" ")
    try:
        payload = jwt.decode(
            token, SECRET, algorithms=["HS256"], audience="peer", issuer="peer",
            options={"require": ["exp", "iat", "jti", "sub"]},
        )
    except jwt.InvalidTokenError as error:
        raise HTTPException(401, "invalid token") from error
    if await revoked(payload["jti"]):
        raise HTTPException(401, "invalid token")
    return payload


@app.post("/actions/bench.greet")
async def greet(body: Greeting, request: Request, payload: Annotated[dict, Depends(caller)]) -> Answer:
    user = payload["sub"]
    for level, who in (("ip", request.client.host), ("user", user), ("action", "greet:" + user)):
        if not await allowed(level, who):
            raise HTTPException(429, "too many calls")
    return Answer(message=" ".join([f"Hello, {body.name}!"] * body.times))
"""
BARE: Final = """
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route


async def greet(request):
    body = await request.json()
    return JSONResponse({"message": f"Hello, {body['name']}!"})


app = Starlette(routes=[Route("/actions/bench.greet", greet, methods=["POST"])])
"""
PACK: Final = """
pack: bench
version: 1.0.0
actions:
  greet:
    summary: Greet someone by name
    handler: .handlers:greet
    parameters:
      name: {type: string, minLength: 1, maxLength: 80}
      times: {type: integer, minimum: 1, maximum: 10, default: 1}
    required: [name]
    returns: {type: object, properties: {message: {type: string}}}
    timeout: 5s
    rate_limit: 100000000/minute
"""
HANDLERS: Final = """
async def greet(name: str, times: int) -> dict[str, str]:
    return {"message": " ".join([f"Hello, {name}!"] * times)}
"""
PATH: Final = "/actions/bench.greet"
BODY: Final = '{"name": "Ada"}'
GIVE_UP_S: Final = 30.0


class Running(NamedTuple):
    """A server that answers: its port, and a token that it takes."""

    port: int
    token: str
    process: subprocess.Popen[bytes]


def needed(program: str, package: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise SystemExit(f"This needs {program!r}: apt-get install {package}")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def started(command: list[str], folder: Path, cpu: int, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    pinned = [needed("taskset", "util-linux"), "-c", str(cpu), *command]
    environ = {**os.environ, **variables}
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(pinned, cwd=folder, stdout=log, stderr=log, env=environ)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def asked(port: int, headers: Mapping[str, str], path: str = PATH, body: str = BODY) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVE_UP_S)
    try:
        connection.request("POST", path, body, {"content-type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def wait_for(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    began = time.monotonic()
    while time.monotonic() - began < GIVE_UP_S:
        with contextlib.suppress(OSError):
            asked(port, {})
            return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise SystemExit((folder / "log").read_text()[-2000:])


def host_settings(port: int, redis: str | None) -> dict[str, Any]:
    managers: dict[str, Any] = {
        "action_discovery": {"folders": ["actions"]},
        "rate_limiter": {"limits": {"ip": "100000000/minute", "user": "100000000/minute", "api_key": []}},
        "jwt": {"access_ttl": 3600},
    }
    if redis is not None:
        managers["redis"] = {"provider": "server", "server": {"url": redis}}
    return {"server": {"port": port}, "managers": managers}


@contextlib.contextmanager
def base04(folder: Path, cpu: int, redis: str | None) -> Iterator[Running]:
    port = free_port()
    (folder / "actions").mkdir(parents=True)
    (folder / "actions" / "bench.yaml").write_text(PACK)
    (folder / "actions" / "handlers.py").write_text(HANDLERS)
    (folder / "base04.yaml").write_text(json.dumps(host_settings(port, redis)))  # JSON is YAML
    program = [sys.executable, "-m", "base04"]
    create = [*program, "keys", "create", "--user", "bench"]
    key = subprocess.run(create, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
    with started([*program, "serve"], folder, cpu) as process:
        wait_for(port, process, folder)
        status, pair = asked(port, {"x-api-key": key}, "/auth/token", "")
        if status != 200:
            raise SystemExit(f"No token: {status} {pair}")
        yield Running(port, pair["access_token"], process)


@contextlib.contextmanager
def peer(folder: Path, cpu: int, source: str, redis: str | None) -> Iterator[Running]:
    import jwt

    port, now = free_port(), int(time.time())
    folder.mkdir(parents=True)
    (folder / "peer.py").write_text(source)
    options = ["--host", "127.0.0.1", "--port", str(port), "--loop", "uvloop", "--http", "httptools"]
    command = [sys.executable, "-m", "uvicorn", "peer:app", "--no-access-log", "--log-level", "warning", *options]
    claims = {"iss": "peer", "aud": "peer", "sub": "bench", "iat": now, "exp": now + 3600, "jti": "x" * 22}
    token = jwt.encode(claims, "0123456789abcdef0123456789abcdef", "HS256")
    variables = {} if redis is None else {"PEER_REDIS": redis}
    with started(command, folder, cpu, **variables) as process:
        wait_for(port, process, folder)
        yield Running(port, token, process)


def processor_seconds(process: subprocess.Popen[bytes]) -> float:
    """Return how long a process has computed."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Load(NamedTuple):
    """What a server did under load: requests per second, and microseconds of its processor for each."""

    rate: float
    cost: float


def load(server: Running, script: Path, cpu: int, seconds: float, connections: int) -> Load:
    """Ask a server as fast as it answers; every answer must be a success."""
    script.write_text(
        'wrk.method = "POST"\n'
        f"wrk.body = '{BODY}'\n"
        'wrk.headers["content-type"] = "application/json"\n'
        f'wrk.headers["authorization"] = "Bearer {server.token}"\n'
    )
    url = f"http://127.0.0.1:{server.port}{PATH}"
    options = ["-t", "1", "-c", str(connections), "-d", f"{max(1, round(seconds))}s", "-s", str(script), url]
    command = [needed("taskset", "util-linux"), "-c", str(cpu), needed("wrk", "wrk"), *options]
    began = processor_seconds(server.process)
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    computed = processor_seconds(server.process) - began
    if "Non-2xx" in told or "Socket errors" in told:
        raise SystemExit(told)
    rate, answered = re.search(r"Requests/sec:\s+([\d.]+)", told), re.search(r"(\d+) requests in", told)
    if rate is None or answered is None:
        raise SystemExit(told)
    return Load(float(rate[1]), computed / int(answered[1]) * 1e6)


def shown(name: str, values: list[float], unit: str) -> None:
    low, middle, high = min(values), statistics.median(values), max(values)
    form = ".2f" if unit == "x" else ".0f"
    print(f"{name:<44} {middle:9{form}} {unit}   [{low:{form}} .. {high:{form}}]")


@contextlib.contextmanager
def redis_server(folder: Path, *, wanted: bool) -> Iterator[str | None]:
    if not wanted:
        yield None
        return
    folder.mkdir()
    with RedisServer(folder) as server:
        yield server.url


def measure(options: argparse.Namespace, *, on_redis: bool) -> dict[str, list[Load]]:
    found: dict[str, list[Load]] = {"Base04": [], "FastAPI": [], "bare Starlette": []}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(redis_server(folder / "redis", wanted=on_redis))
        servers = {
            "Base04": stack.enter_context(base04(folder / "host", options.cpu, redis)),
            "FastAPI": stack.enter_context(peer(folder / "fastapi", options.cpu, FASTAPI, redis)),
            "bare Starlette": stack.enter_context(peer(folder / "bare", options.cpu, BARE, None)),
        }
        for server in servers.values():
            status, answer = asked(server.port, {"authorization": f"Bearer {server.token}"})
            if (status, answer) != (200, {"message": "Hello, Ada!"}):
                raise SystemExit(f"{status} {answer}")
            load(server, folder / "wrk.lua", options.load_cpu, 1, options.connections)
        for _ in range(options.rounds):
            for name, server in servers.items():
                done = load(server, folder / "wrk.lua", options.load_cpu, options.seconds, options.connections)
                found[name].append(done)
    return found


def tell(found: Mapping[str, list[Load]]) -> None:
    for name, loads in found.items():
        shown(name, [one.rate for one in loads], "req/s")
        shown(f"{name}, processor", [one.cost for one in loads], "us")
    for name in ("FastAPI", "bare Starlette"):
        pairs = list(zip(found["Base04"], found[name], strict=True))
        shown(f"Base04 to {name}", [ours.rate / theirs.rate for ours, theirs in pairs], "x")
        shown(f"Base04 to {name}, processor", [theirs.cost / ours.cost for ours, theirs in pairs], "x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--cpu", type=int, default=0, help="where the servers run")
    parser.add_argument("--load-cpu", type=int, default=1, help="where wrk runs")
    parser.add_argument("--redis", action="store_true", help="limits and revocations on a redis-server")
    parser.add_argument("--memory", action="store_true", help="the embedded default alone")
    options = parser.parse_args()
    for on_redis in (False, True):
        if (options.redis and not on_redis) or (options.memory and on_redis):
            continue
        found = measure(options, on_redis=on_redis)
        print(f"{'with Redis' if on_redis else 'embedded default'}, {options.rounds} rounds: median [min .. max]")
        tell(found)


if __name__ == "__main__":
    main()
