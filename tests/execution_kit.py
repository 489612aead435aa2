"""A pack whose actions wait to be let go, fail, or report progress, and a host that runs it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import textwrap
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2 as httpx

from base04.app_manager import AppManager
from base04_hookspecs.action_discovery import ActionContext
from base04_hookspecs.context import Principal
from base04_hookspecs.errors import Conflict, ManagerUnavailable

ADA = Principal("ada", ("pack.use",), "token")
BOB = Principal("bob", ("pack.use",), "token")

PACK = """
pack: pack
version: 1.0.0
actions:
  add:
    handler: execution_kit:add
    access: public
    parameters: {a: {type: integer}, b: {type: integer, default: 1}}
    required: [a]
    rate_limit: 100000/minute
  work:
    handler: execution_kit:work
    access: public
    parameters: {name: {type: string}, steps: {type: integer, default: 0}, end: {type: string, default: ""}}
    required: [name]
  again:
    handler: execution_kit:work
    access: public
    parameters: {name: {type: string}, steps: {type: integer, default: 0}, end: {type: string, default: ""}}
    required: [name]
    idempotent: true
  long:
    handler: execution_kit:work
    access: {permissions: [pack.use]}
    mode: background
    parameters: {name: {type: string}, steps: {type: integer, default: 0}, end: {type: string, default: ""}}
    required: [name]
  long_again:
    handler: execution_kit:work
    access: public
    mode: background
    idempotent: true
    parameters: {name: {type: string}, steps: {type: integer, default: 0}, end: {type: string, default: ""}}
    required: [name]
  login:
    handler: execution_kit:login
    access: public
    mode: background
    idempotent: true
    parameters: {name: {type: string}, password: {type: string, secret: true}}
    required: [name, password]
    returns: {type: object, properties: {token: {type: string, secret: true}, length: {type: integer}}}
  once_at_a_time:
    handler: execution_kit:work
    access: public
    concurrency: 1
    parameters: {name: {type: string}, steps: {type: integer, default: 0}, end: {type: string, default: ""}}
    required: [name]
"""


_ROLES = ("executor", "action_discovery", "database", "api_key")


class Gates:
    """What handlers wait for, by the name that they were called with."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.cancelled: Counter[str] = Counter()
        self.closed: set[str] = set()
        self._changed = asyncio.Condition()

    async def pass_through(self, name: str) -> None:
        """Be counted, and wait while the gate is closed."""
        async with self._changed:
            self.begun[name] += 1
            self._changed.notify_all()
            try:
                await self._changed.wait_for(lambda: name not in self.closed)
            except asyncio.CancelledError:
                self.cancelled[name] += 1
                self._changed.notify_all()
                raise

    async def open(self, name: str) -> None:
        """Let everybody through."""
        async with self._changed:
            self.closed.discard(name)
            self._changed.notify_all()

    async def until_begun(self, name: str, times: int = 1) -> None:
        """Wait until a handler has been called."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: self.begun[name] >= times)

    async def until_cancelled(self, name: str, times: int = 1) -> None:
        """Wait until handlers have been cancelled."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: self.cancelled[name] >= times)


gates = Gates()


def new_gates(*closed: str) -> Gates:
    """Return new gates, which handlers use from now on."""
    global gates
    gates = Gates()
    gates.closed = set(closed)
    return gates


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def login(name: str, password: str) -> dict[str, Any]:
    """Wait at the gate, and answer with something secret."""
    await gates.pass_through(name)
    return {"token": f"token of {name}", "length": len(password)}


async def work(name: str, steps: int, end: str, context: ActionContext) -> dict[str, Any]:
    """Report progress, wait at the gate, and end as told."""
    for step in range(steps):
        context.progress(step + 1, steps, f"step {step + 1}")
    await gates.pass_through(name)
    if end == "conflict":
        raise Conflict(f"{name} is there already")
    if end == "unavailable":
        raise ManagerUnavailable("the printer is away")
    if end == "exit":
        sys.exit(3)
    if end:
        raise ValueError(end)
    return {"name": name, "times": gates.begun[name]}


def settings(folder: Path, **further: Any) -> dict[str, Any]:
    """Return the settings of a host with the pack, whose data lie in a folder."""
    actions = folder / "actions"
    actions.mkdir(exist_ok=True)
    (actions / "pack.yaml").write_text(textwrap.dedent(PACK))
    return {
        "data_dir": str(folder / "data"),
        "log": {"level": "warning"},
        "managers": {"action_discovery": {"folders": [str(actions)]}, **further.pop("managers", {})},
        **further,
    }


@contextlib.asynccontextmanager
async def host(folder: Path, **further: Any) -> AsyncIterator[AppManager]:
    """Run a host with the pack, and with no more than it and HTTP need."""
    async with AppManager(settings(folder, **further), only=_ROLES) as app:
        yield app


@contextlib.asynccontextmanager
async def client(app: AppManager, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """Return an HTTP client of a host in this process."""
    transport = httpx.ASGITransport(app=app.serve)
    async with httpx.AsyncClient(transport=transport, base_url="http://host", headers=headers) as found:
        yield found


async def key_for(app: AppManager, user: str, *permissions: str) -> dict[str, str]:
    """Return the header that proves that one is a user with permissions."""
    return {"x-api-key": await app.api_key_manager.generate_api_key(user, permissions)}
