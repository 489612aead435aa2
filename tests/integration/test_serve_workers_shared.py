"""Several workers on one PostgreSQL and one Redis count, run and emit as one process does."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import websockets

from base04.testing.servers.redis import RedisServer
from postgres_kit import postgres, postgres_url
from serve_kit import Server, write
from websocket_kit import NativeClient
from workers_kit import all_serve, fresh, kill, redis, settings, wait_until

Serve = Callable[..., Server]
__all__ = ["postgres", "postgres_url", "redis"]

PACK = """
    pack: jobs
    version: 1.0.0
    actions:
      tell:
        summary: Say which process runs this
        handler: .jobs:tell
        access: public
        rate_limit: 20/minute
      where:
        summary: Say which process runs this
        handler: .jobs:tell
        access: authenticated
      work:
        summary: Work until a file is there
        handler: .jobs:work
        access: public
        idempotent: true
"""
HANDLERS = """
    import asyncio
    import os
    from pathlib import Path


    async def tell() -> int:
        return os.getpid()


    async def work() -> int:
        with Path("runs").open("a") as file:
            file.write(f"{os.getpid()}\\n")
        while not Path("go").exists():
            await asyncio.sleep(0.01)
        return os.getpid()
"""


@pytest.fixture
def host(serve: Serve, tmp_path: Path, redis: RedisServer, postgres_url: str) -> Server:
    """A host with three workers."""
    folder = tmp_path / "host"
    write(folder / "actions/jobs.yaml", PACK)
    write(folder / "actions/jobs.py", HANDLERS)
    written = settings(
        redis,
        3,
        database={"provider": "postgresql", "postgresql": {"url": postgres_url, "pool_size": 4}},
        action_discovery={"folders": ["actions"]},
    )
    server = serve(folder, settings=json.dumps({**written, "executions": {"lease": "1s"}}))
    assert server.url
    return server


def test_limit_admits_exactly_as_many_over_all_workers(host: Server) -> None:
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: fresh(host, "POST", "/actions/jobs.tell"), range(120)))
    assert Counter(status for status, _ in answers) == {200: 20, 429: 100}
    assert len({body for status, body in answers if status == 200}) > 1  # several of them have counted
    assert host.stop() == 0


def test_background_run_is_seen_by_all_and_outlives_its_worker(host: Server) -> None:
    status, body = fresh(host, "POST", "/actions/jobs.work", prefer="respond-async")
    assert status == 202
    run = f"/executions/{json.loads(body)['id']}"
    wait_until((host.folder / "runs").exists, "it does not run")
    killed = int((host.folder / "runs").read_text())
    headers = {"x-api-key": host.admin_key}
    assert {json.loads(fresh(host, "GET", run, **headers)[1])["status"] for _ in range(20)} == {"running"}
    kill(killed, signal.SIGKILL)
    wait_until(lambda: len((host.folder / "runs").read_text().split()) == 2, "nobody has taken it over")
    (host.folder / "go").touch()

    def found() -> dict[str, object]:
        answer: dict[str, object] = json.loads(fresh(host, "GET", run, **headers)[1])
        return answer

    wait_until(lambda: found()["status"] == "succeeded", "it does not end")
    wait_until(all_serve(host, 3, but=killed), "it has no successor")
    assert found()["result"] == int((host.folder / "runs").read_text().split()[1]) != killed
    assert host.stop() == 0


def test_sqlite_and_the_file_of_secrets_can_be_shared(serve: Serve, tmp_path: Path, redis: RedisServer) -> None:
    server = serve(tmp_path / "host", settings=json.dumps(settings(redis, 3)))
    headers = {"x-api-key": server.admin_key, "content-type": "application/json"}

    def write_something(number: int) -> int:
        key = json.dumps({"user_id": f"user-{number}", "permissions": ["notes.read"]})
        state = json.dumps({"type": "resource", "data": {"number": number}})
        if number % 2:
            return fresh(server, "POST", "/api-keys", key, **headers)[0]
        return fresh(server, "PUT", f"/state/note-{number}", state, **headers)[0]

    with ThreadPoolExecutor(12) as pool:
        assert Counter(pool.map(write_something, range(200))) == {201: 200}
    for _ in range(6):  # any of them
        assert fresh(server, "GET", "/state/note-42", **headers)[0] == 200
    assert server.stop() == 0


async def test_rooms_reach_the_sockets_of_all_workers(host: Server) -> None:
    with host.admin() as admin:
        token = admin.post("/auth/token").json()["access_token"]
    address = host.url.replace("http://", "ws://") + "/ws"
    async with AsyncExitStack() as stack:
        clients: dict[int, NativeClient] = {}
        for _ in range(200):  # until each worker has one
            socket = await stack.enter_async_context(
                websockets.connect(address, additional_headers={"Authorization": f"Bearer {token}"}, proxy=None)
            )
            client = await NativeClient(socket).greeted()
            clients.setdefault(await client.call("jobs.where", {}), client)
            if len(clients) == 3:
                break
        assert len(clients) > 1
        for client in clients.values():
            await client.join("news")
        for number, client in enumerate(clients.values()):
            await client.emit("news", "headline", number)
        for client in clients.values():
            assert [await client.event() for _ in clients] == [("news", "headline", n) for n in range(len(clients))]
    assert host.stop() == 0
    assert "is not understood" not in host.stderr.text
