"""Providers that were written for an older version of their contracts, in a real host."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from websockets.sync.client import connect

from serve_kit import PATIENCE_S, Server, install, run_base04

OLD = '''
from base04_builtin.hooks.inprocess import InProcessHooksManager
from base04_builtin.jwt.signed import SignedJWTManager
from base04_builtin.redis.memory import MemoryRedisManager
from base04_builtin.services.inprocess import InProcessServicesManager
from base04_builtin.state.database import DatabaseStateManager
from base04_builtin.websocket.native import NativeWebSocketManager
from base04_hookspecs.errors import NotSupported
from base04_hookspecs.hooks import HooksManager
from base04_hookspecs.jwt import JWTManager
from base04_hookspecs.redis import RedisManager
from base04_hookspecs.services import ServicesManager
from base04_hookspecs.state import StateManager
from base04_hookspecs.websocket import WebSocketManager


def newer(contract, name):
    """Return what a provider of version 1.0 has for a method that came later."""
    if {refuses}:
        def refuse(self, *args):
            raise NotSupported(name)
        return refuse
    return vars(contract)[name]


class Hooks(InProcessHooksManager):
    has_callbacks, take_over = newer(HooksManager, "has_callbacks"), newer(HooksManager, "take_over")


class JWT(SignedJWTManager):
    is_still_valid = newer(JWTManager, "is_still_valid")
    watch_revocations = newer(JWTManager, "watch_revocations")


class Redis(MemoryRedisManager):
    local_object = newer(RedisManager, "local_object")


class Services(InProcessServicesManager):
    take_over = newer(ServicesManager, "take_over")


class State(DatabaseStateManager):
    take_over = newer(StateManager, "take_over")


class WebSocket(NativeWebSocketManager):
    paths = vars(WebSocketManager)["paths"]
'''

PLUGIN = """
from base04_hookspecs import Provider, hookimpl

def offer(name):
    def implementation():
        yield Provider("old", f"acme_old.managers:{name}"%s)
    return hookimpl(implementation)

hooks_providers, jwt_providers, redis_providers = offer("Hooks"), offer("JWT"), offer("Redis")
services_providers, state_providers, websocket_providers = offer("Services"), offer("State"), offer("WebSocket")
"""

LACKS = {
    "hooks": ["has_callbacks (1.1)", "take_over (1.1)"],
    "jwt": ["is_still_valid (1.1)", "watch_revocations (1.1)"],
    "redis": ["local_object (1.1)"],
    "services": ["take_over (1.1)"],
    "state": ["take_over (1.1)"],
    "websocket": ["paths (1.1)"],
}

PACK = """
pack: acme
version: 1.0.0
actions:
  say: {summary: Say, handler: "acme_old.handlers:say", parameters: {word: {type: string}}, required: [word]}
"""


def installed(folder: Path, version: str, *, refuses: bool = False) -> Path:
    install(
        folder,
        "acme-old",
        plugins={"old": "acme_old.plugin"},
        actions={"acme": "acme_old"},
        files={
            "acme_old/__init__.py": "",
            "acme_old/plugin.py": PLUGIN % version,
            "acme_old/managers.py": OLD.replace("{refuses}", str(refuses)),
            "acme_old/handlers.py": "async def say(word):\n    return word\n",
            "acme_old/pack.yaml": PACK,
        },
    )
    return folder


def warned(server: Server) -> dict[str, list[str]]:
    """Return what the log says of each contract; once each."""
    lines = [json.loads(line) for line in server.stderr.text.splitlines() if "an older contract" in line]
    assert len({line["contract"] for line in lines}) == len(lines), "told once"
    return {line["contract"]: line["lacks"] for line in lines if line["level"] == "warning"}


@pytest.mark.parametrize("refuses", [False, True], ids=["inherited", "not supported"])
def test_older_providers_work_and_are_told_of_once(tmp_path: Path, refuses: bool) -> None:
    site = installed(tmp_path / "site", ', contract="1.0"', refuses=refuses)
    with Server(tmp_path / "host", site=site) as server:
        assert "jwt=old" in server.stdout.wait_for("  managers ")  # type: ignore[operator]  # the assertion fails then
        _use(server)
        told = warned(server)
        found = LACKS if not refuses else {"websocket": LACKS["websocket"]}  # who refuses has something of its own
        assert told == found
        with server.admin() as admin:
            assert admin.post("/modules/old/reload").status_code == 200
            module = admin.get("/modules/old").json()
        _use(server)
        assert warned(server) == told
        assert len(module["warnings"]) == len(told)
        assert all("acme-old 1.0" in text and re.search(r'contract="1\.[12]"', text) for text in module["warnings"])
        assert server.stop() == 0


def _use(server: Server) -> None:
    """Use every old manager."""
    with server.admin() as admin:
        token = admin.post("/auth/token").json()["access_token"]
        assert admin.put("/state/lamp", json={"value": {"on": True}}, headers={"if-none-match": "*"}).status_code < 500
    with server.client(authorization=f"Bearer {token}") as client:
        for _ in range(3):  # the second time it is a token that is known
            assert client.post("/actions/acme.say", json={"word": "hello"}).json() == "hello"
    url = server.url.replace("http", "ws") + "/ws"
    with connect(url, additional_headers={"authorization": f"Bearer {token}"}) as websocket:
        websocket.send(json.dumps({"type": "ping"}))
        assert websocket.recv(PATIENCE_S)


def test_commands_show_what_an_older_provider_lacks(tmp_path: Path) -> None:
    site = installed(tmp_path / "site", "")
    listed = json.loads(run_base04("plugins", "--json", cwd=tmp_path, site=site).stdout)["plugins"]
    warnings = {item["name"]: item["warnings"] for item in listed}
    assert len(warnings.pop("old")) == len(LACKS)
    assert not any(warnings.values())
    shown = run_base04("plugins", cwd=tmp_path, site=site).stdout
    assert "does not say for which version of the contract 'jwt' it is written, so 1.0 is assumed" in shown
    assert "is_still_valid (1.1), watch_revocations (1.1)" in shown
    for command in (["modules", "list"], ["modules", "show", "old"], ["doctor"]):
        assert "watch_revocations (1.1)" in run_base04(*command, cwd=tmp_path, site=site).stdout
    findings = json.loads(run_base04("doctor", "--json", cwd=tmp_path, site=site).stdout)["findings"]
    assert {item["level"] for item in findings if item["subject"] == "plugin old"} == {"warning"}


def test_provider_of_todays_contract_is_not_told_of(tmp_path: Path) -> None:
    site = installed(tmp_path / "site", ', contract="1.1"')
    done = run_base04("plugins", "--json", cwd=tmp_path, site=site)
    assert not any(item["warnings"] for item in json.loads(done.stdout)["plugins"])


@pytest.mark.parametrize("version", ["1.2", "2.0"])
def test_provider_of_a_newer_contract_or_another_major_is_refused(tmp_path: Path, version: str) -> None:
    site = installed(tmp_path / "site", f', contract="{version}"')
    with Server(tmp_path / "host", site=site) as server:
        assert "jwt=signed" in server.stdout.wait_for("  managers ")  # type: ignore[operator]  # as above
        line = server.stderr.wait_for("a plugin failed and is left out")
        assert line is not None
        assert f"version {version} of the contract" in json.loads(line)["reason"]
        assert "this Base04 has version 1.1" in json.loads(line)["reason"]
        assert server.stop() == 0
