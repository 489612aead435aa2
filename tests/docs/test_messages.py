"""JSON that the pages show, compared with what a host says."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from base04_builtin.websocket.messages import gap
from docs_kit import DOCS, blocks
from serve_kit import PATIENCE_S, Server

PROTOCOL = Subprotocol("base04.v1")

NAMED_BY_CHANCE = frozenset({"epoch", "sid", "offset", "after", "wait_s", "timestamp", "request_id", "client_ip"})
"""Keys whose values differ from one time to the next; they have the same type."""


def shown(page: str) -> list[dict[str, Any]]:
    """Return the objects of a page's JSON blocks, a line each."""
    return [json.loads(line) for block in blocks(DOCS / page, "json") for line in block.text.splitlines()]


def alike(page: Any, said: Any, key: str = "") -> bool:
    """Tell whether something that was said is what a page shows."""
    if isinstance(page, dict):
        return isinstance(said, dict) and page.keys() == said.keys() and all(alike(page[k], said[k], k) for k in page)
    if key in NAMED_BY_CHANCE:
        return type(page) is type(said) or {type(page), type(said)} == {int, float}
    return bool(page == said)


def lines(server: Server) -> list[dict[str, Any]]:
    """Return what a host that has ended wrote to its log."""
    return [json.loads(text) for text in re.findall(r"^{.*}$", server.stderr.wait_for_end(), re.MULTILINE)]


class Client:
    """A client that keeps all that is said, by itself and by the server."""

    def __init__(self, wire: ClientConnection, said: list[dict[str, Any]]) -> None:
        self._wire, self._said, self._numbers = wire, said, itertools.count(100)

    def send(self, **message: Any) -> None:
        self._said.append(message)
        self._wire.send(json.dumps(message))

    def hear(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._wire.recv(timeout=PATIENCE_S))
        self._said.append(message)
        return message

    def hear_until(self, kind: str) -> dict[str, Any]:
        """Return the first message of a kind; an error that is not waited for is one."""
        while (message := self.hear())["type"] != kind:
            assert message["type"] != "error", message
        return message


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Return a host with the actions that the pages speak of."""
    (tmp_path / "actions").mkdir()
    (tmp_path / "actions" / "hello.yaml").write_text(
        'pack: hello\nversion: 1.0.0\nactions:\n  greet:\n    handler: ".hello:greet"\n    access: public\n'
        "    parameters: {name: {type: string}}\n    required: [name]\n"
    )
    (tmp_path / "actions" / "hello.py").write_text(
        "async def greet(name: str) -> dict[str, str]:\n    return {'message': f'Hello, {name}!'}\n"
    )
    (tmp_path / "actions" / "shop.yaml").write_text(
        'pack: shop\nversion: 1.0.0\nactions:\n  pay:\n    handler: ".shop:pay"\n    idempotent: true\n'
        "    retry: {attempts: 2, delay: 100ms, when: failed}\n"
    )
    (tmp_path / "actions" / "shop.py").write_text(
        "tried = []\n\nasync def pay() -> str:\n    tried.append(1)\n"
        "    if len(tried) == 1:\n        raise RuntimeError('no answer')\n    return 'paid'\n"
    )
    settings = "managers: {action_discovery: {folders: [actions]}}\n"
    with Server(tmp_path, settings=settings) as server:
        yield server


@contextmanager
def entered(server: Server, user: str, said: list[dict[str, Any]]) -> Iterator[Client]:
    """Connect as a user, with the token in the first message."""
    with server.admin() as admin:
        key = admin.post("/api-keys", json={"user_id": user, "permissions": []}).json()["api_key"]
    with server.client(key) as owner:
        token = owner.post("/auth/token").json()["access_token"]
    with connect(server.url.replace("http", "ws") + "/ws", proxy=None, subprotocols=[PROTOCOL]) as wire:
        client = Client(wire, said)
        client.send(type="auth", token=token)
        assert client.hear()["type"] == "auth_ok"
        yield client


def test_messages_of_the_websocket_page_are_what_is_said(server: Server) -> None:
    said: list[dict[str, Any]] = []
    with entered(server, "ada", said) as ada, entered(server, "bob", said) as bob:
        ada.send(type="join", id=1, room="news", presence=True)
        place = ada.hear_until("ack")["result"]
        bob.send(type="join", id=1, room="news")
        bob.hear_until("ack")
        ada.hear_until("presence")
        ada.send(type="call", id=7, action="hello.greet", args={"name": "Ada"})
        ada.hear_until("ack")
        ada.send(type="join", id=7, room="user_bob")
        ada.hear_until("error")
        ada.send(type="emit", id=2, room="news", event="headline", data={"n": 1})
        ada.hear_until("event")
        ada.send(type="ping")
        ada.hear_until("pong")
        bob.send(type="leave", id=2, room="news")
        bob.hear_until("ack")
        ada.send(type="leave", id=2, room="news")
        ada.hear_until("ack")
        bob.send(type="join", id=3, room="news")
        bob.hear_until("ack")
        ada.send(type="join", id=3, room="news", since={"epoch": place["epoch"], "offset": 1}, presence=True)
        ada.hear_until("ack")
        assert server.stop() == 0
        ada.hear_until("reconnect")
    # A gap needs an outage; the tests of the provider have one. Here it is what the provider would send.
    said.append(json.loads(gap("news", "Zk8w", 0)["text"]))
    missing = [line for line in shown("websocket.md") if not any(alike(line, message) for message in said)]
    assert not missing


def test_log_line_of_an_action_is_what_is_logged(server: Server) -> None:
    (line,) = shown("watch.md")
    traced = {"traceparent": f"00-{line['trace_id']}-{line['span_id']}-01"}
    with server.admin() as admin:
        made = admin.post("/api-keys", json={"user_id": line["user_id"], "permissions": []}).json()
    with server.client(made["api_key"], **traced) as ada:
        assert ada.post("/actions/shop.pay").json() == "paid"
    assert server.stop() == 0
    logged = [entry for entry in lines(server) if entry["event"] == line["event"]]
    assert any(alike(line, entry) for entry in logged), json.dumps(logged)


def test_pages_with_json_are_those_that_are_compared() -> None:
    assert shown("websocket.md")
    assert not alike({"type": "pong"}, {"type": "ping"})
    assert not alike({"type": "pong"}, {"type": "pong", "id": None})
    assert alike({"after": 2.4}, {"after": 1})
