"""Whose address counts: forwarding headers are believed from configured proxies alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from serve_kit import Server, write

Serve = Callable[..., Server]

PACK = """
pack: address
version: 1.0.0
actions:
  mine: {summary: Say where the call came from, handler: ".handlers:mine", access: public}
  seldom: {summary: Once a day, handler: ".handlers:mine", access: public, rate_limit: 1/day}
"""
HANDLERS = """
from base04_hookspecs import current_request

async def mine():
    return current_request().client_ip
"""


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        ("[]", "203.0.113.9", "127.0.0.1"),
        ("['192.0.2.7']", "203.0.113.9", "127.0.0.1"),
        ("['127.0.0.1']", "203.0.113.9", "203.0.113.9"),
        ("['127.0.0.0/8']", "203.0.113.9", "203.0.113.9"),
        ("['127.0.0.1', '192.0.2.7']", "198.51.100.66, 203.0.113.9, 192.0.2.7", "203.0.113.9"),
    ],
)
def test_address_comes_from_headers_only_behind_a_trusted_proxy(
    serve: Serve, tmp_path: Path, proxies: str, forwarded: str, address: str
) -> None:
    write(tmp_path / "actions" / "address.yaml", PACK)
    write(tmp_path / "actions" / "handlers.py", HANDLERS)
    settings = f"server: {{trusted_proxies: {proxies}}}\nmanagers: {{action_discovery: {{folders: [actions]}}}}\n"
    server = serve(settings=settings)
    with server.client(**{"x-forwarded-for": forwarded}) as client:
        assert client.post("/actions/address.mine").json() == address
        assert client.post("/actions/address.seldom").status_code == 200
    other = {"x-forwarded-for": "203.0.113.10"}
    with server.client(**other) as client:
        expected = 429 if address == "127.0.0.1" else 200
        assert client.post("/actions/address.seldom").status_code == expected
