"""The browser's client, in node, against a server that says what the test tells it to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

import base04
from scripted_server import PATIENCE_S, ScriptedServer, scripted_server, token_that_ends

MODULE = Path(base04.__file__).parent / "http" / "static" / "base04.js"

PRELUDE = """
const { Base04Client, connect } = await import(process.argv[1]);
const say = (step, value) => console.log(JSON.stringify([step, value ?? null]));
const quick = { url: process.argv[2], minPause: 10, maxPause: 50, token: "token" };
const told = (client, ...kinds) => {
  for (const kind of kinds) client.on(kind, (value) => say(kind, value));
  return client;
};
const refusal = ({ code, message, details }) => say("refused", { code, details });
"""


class Page:
    """A script that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def step(self, name: str) -> Any:
        """Return the value of the next step that the script tells, which must be of this name."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            line = await self._process.stdout.readline()
        assert line, "the script ended"
        step, value = json.loads(line)
        assert step == name, line
        return value


@pytest.fixture
def node() -> str:
    found = shutil.which("node")
    if found is None or subprocess.run([found, "--experimental-websocket", "--eval", "0"], check=False).returncode:
        pytest.skip("There is no node 20.10 or later: run 'apt-get install nodejs'")
    return found


@pytest.fixture
async def script() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as server:
        yield server


@contextlib.asynccontextmanager
async def page(node: str, script: ScriptedServer, text: str) -> AsyncIterator[Page]:
    command = [node, "--no-warnings", "--experimental-websocket", "--input-type=module", "--eval", PRELUDE + text]
    process = await asyncio.create_subprocess_exec(
        *command, MODULE.as_uri(), script.url, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield Page(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def test_join_emit_call_and_events(node: str, script: ScriptedServer) -> None:
    text = """
    const client = told(connect(quick), "open", "event", "presence", "gap");
    say("joined", await client.join("news", { presence: true }));
    say("emitted", await client.emit("news", "line", { n: 1 }));
    say("handled", await client.emit(null, "double", 21));
    say("called", await client.call("greet", { name: "Ada" }));
    await client.join("user_bob").catch(refusal);
    say("rooms", client.rooms);
    await client.leave("news");
    client.close();
    """
    async with page(node, script, text) as running:
        peer = await (await script.next()).greet()
        assert peer.token == "token"
        assert await running.step("open") == {"sid": "s1", "userId": "ada"}
        joined = {"epoch": "E", "offset": 0, "recovered": True, "users": ["ada"]}
        assert await peer.asked(joined) == {"type": "join", "room": "news", "presence": True}
        assert await running.step("presence") == {"room": "news", "event": "users", "users": ["ada"]}
        assert await running.step("joined") == {"users": ["ada"], "recovered": True}
        message = await peer.receive()
        await peer.send(type="event", room="news", event="line", data={"n": 1}, sender="ada", epoch="E", offset=1)
        await peer.send(type="ack", id=message["id"], result={"epoch": "E", "offset": 1})
        heard = await running.step("event")
        position = {"epoch": "E", "offset": 1}
        assert heard == {"room": "news", "event": "line", "data": {"n": 1}, "sender": "ada", **position}
        assert await running.step("emitted") == {"epoch": "E", "offset": 1}
        assert await peer.asked(42) == {"type": "emit", "event": "double", "data": 21}
        assert await running.step("handled") == 42
        assert await peer.asked("Hello") == {"type": "call", "action": "greet", "args": {"name": "Ada"}}
        assert await running.step("called") == "Hello"
        message = await peer.receive()
        error = {"code": "forbidden", "message": "You may not.", "room": "user_bob"}
        await peer.send(type="error", id=message["id"], error=error)
        assert await running.step("refused") == {"code": "forbidden", "details": {"room": "user_bob"}}
        assert await running.step("rooms") == ["news"]
        assert await peer.asked() == {"type": "leave", "room": "news"}


async def test_comes_back_with_positions_and_tells_gaps(node: str, script: ScriptedServer) -> None:
    text = """
    const client = told(connect(quick), "event", "gap", "presence");
    await client.join("news");
    say("joined");
    """
    async with page(node, script, text) as running:
        peer = await (await script.next()).greet()
        await peer.asked({"epoch": "E", "offset": 4, "recovered": True})
        await running.step("joined")
        for offset in (5, 5, 8):
            await peer.event("news", offset, offset)
        assert (await running.step("event"))["data"] == 5
        assert await running.step("gap") == {"room": "news"}
        assert (await running.step("event"))["data"] == 8
        await peer.break_off()

        peer = await (await script.next()).greet("s2")
        message = await peer.receive()
        assert message["since"] == {"epoch": "E", "offset": 8}
        await peer.event("news", 9, "missed")
        await peer.send(type="ack", id=message["id"], result={"epoch": "E", "offset": 9, "recovered": True})
        await peer.event("news", 10, "after")
        assert (await running.step("event"))["data"] == "missed"
        assert (await running.step("event"))["data"] == "after"
        await peer.close(1012)

        peer = await (await script.next()).greet("s3")
        await peer.asked({"epoch": "F", "offset": 2, "recovered": False})
        assert await running.step("gap") == {"room": "news"}
        await peer.event("news", 3, "new", "F")
        assert (await running.step("event"))["data"] == "new"
        await peer.send(type="gap", room="news", epoch="G", offset=0)
        assert await running.step("gap") == {"room": "news"}
        await peer.event("news", 1, "newest", "G")
        assert (await running.step("event"))["data"] == "newest"


async def test_room_is_entered_again_as_soon_as_it_can_be_and_forgotten_when_it_may_not(
    node: str, script: ScriptedServer
) -> None:
    text = """
    const client = told(connect(quick), "event");
    client.on("error", (error) => (refusal(error), say("rooms", client.rooms)));
    await client.join("news");
    say("joined");
    """
    async with page(node, script, text) as running:
        peer = await (await script.next()).greet()
        await peer.asked({"epoch": "E", "offset": 4, "recovered": True})
        await running.step("joined")
        await peer.close(1012)
        peer = await (await script.next()).greet("s2")
        message = await peer.receive()
        error = {"code": "unavailable", "message": "Not now.", "retry_after": 0.01}
        await peer.send(type="error", id=message["id"], error=error)
        again = await peer.asked({"epoch": "E", "offset": 4, "recovered": True})
        assert again["since"] == {"epoch": "E", "offset": 4}
        await peer.event("news", 5, "after")
        assert (await running.step("event"))["data"] == "after"
        await peer.close(1012)
        peer = await (await script.next()).greet("s3")
        message = await peer.receive()
        await peer.send(type="error", id=message["id"], error={"code": "forbidden", "message": "Not any more."})
        assert (await running.step("refused"))["code"] == "forbidden"
        assert await running.step("rooms") == []


async def test_what_is_open_when_the_connection_breaks_is_told(node: str, script: ScriptedServer) -> None:
    text = """
    const client = told(connect(quick), "close");
    await client.call("slow").catch(refusal);
    say("called", await client.call("later"));
    """
    async with page(node, script, text) as running:
        peer = await (await script.next()).greet()
        await peer.receive()
        script.refusals = [(HTTPStatus.SERVICE_UNAVAILABLE, "stopping")] * 2
        await peer.break_off()
        assert await running.step("close") is not None
        assert await running.step("refused") == {"code": "lost", "details": {}}
        assert await running.step("close") is not None
        assert await running.step("close") is not None
        peer = await (await script.next()).greet()
        assert (await peer.asked("done"))["action"] == "later"
        assert await running.step("called") == "done"


async def test_token_is_renewed_in_band_and_replaced_when_it_ended(node: str, script: ScriptedServer) -> None:
    first, second = token_that_ends(0.2, "first"), token_that_ends(3600, "second")
    text = f"""
    const tokens = {json.dumps([first, second, "third", "third"])};
    const client = told(connect({{ ...quick, token: async () => tokens.shift() }}), "open", "end");
    """
    async with page(node, script, text) as running:
        peer = await (await script.next()).greet()
        assert peer.token == first
        await running.step("open")
        message = await peer.receive()
        assert (message["type"], message["token"]) == ("auth", second)
        await peer.send(type="auth_ok", id=message["id"], sid="s1", user_id="ada")
        await peer.close(4411)
        peer = await (await script.next()).greet()
        assert peer.token == "third"
        await running.step("open")
        await peer.close(4411)
        assert (await running.step("end"))["code"] == 4411


@pytest.mark.parametrize("code", [1000, 4400, 4401])
async def test_final_end_refuses_everything(node: str, script: ScriptedServer, code: int) -> None:
    text = """
    const client = told(connect(quick), "end");
    client.on("end", async () => {
      await client.call("anything").catch(refusal);
      await client.join("anywhere").catch(refusal);
    });
    """
    async with page(node, script, text) as running:
        peer = await (await script.next()).greet()
        await peer.close(code, "because")
        assert await running.step("end") == {"code": code, "reason": "because"}
        assert (await running.step("refused"))["code"] == "closed"
        assert (await running.step("refused"))["code"] == "closed"


async def test_server_says_when_to_come_back(node: str, script: ScriptedServer) -> None:
    text = 'told(connect({ ...quick, minPause: 1e6, maxPause: 1e6 }), "open", "close");'
    async with page(node, script, text) as running:
        peer = await (await script.next()).greet()
        await running.step("open")
        await peer.send(type="reconnect", after=0.01)
        await peer.close(1012)
        assert (await running.step("close"))["pause"] == 10
        await (await script.next()).greet("s2")
        assert (await running.step("open"))["sid"] == "s2"


async def test_silent_server_is_left(node: str, script: ScriptedServer) -> None:
    text = 'told(connect({ ...quick, pingInterval: 10, timeout: 2000 }), "open", "close");'
    async with page(node, script, text) as running:
        await (await script.next()).greet()  # and it never answers a ping
        await running.step("open")
        assert (await running.step("close"))["reason"] == "the server is silent"
        await (await script.next()).greet("s2")
        assert (await running.step("open"))["sid"] == "s2"
