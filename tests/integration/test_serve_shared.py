"""Two hosts that share servers: what one revokes, the other refuses, and both count together."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from base04.testing.servers.redis import RedisServer
from postgres_kit import postgres, postgres_url
from serve_kit import Server

Serve = Callable[..., Server]
__all__ = ["postgres", "postgres_url"]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "redis"
    folder.mkdir()
    with RedisServer(folder) as server:
        yield server


@pytest.fixture
def pair(serve: Serve, tmp_path: Path, redis: RedisServer, postgres_url: str) -> tuple[Server, Server]:
    """Two hosts with one database, one Redis and one file of secrets."""
    settings = {
        "managers": {
            "redis": {"provider": "server", "server": {"url": redis.url}},
            "database": {"provider": "postgresql", "postgresql": {"url": postgres_url}},
            "vault": {"file": {"path": str(tmp_path / "secrets.json")}},
            "rate_limiter": {"limits": {"ip": "100000/minute", "user": "1000/day"}},
        }
    }
    one = serve(tmp_path / "one", settings=json.dumps(settings))
    assert one.url  # the first makes the tables and the first key
    return one, serve(tmp_path / "two", settings=json.dumps(settings))


def test_revoked_token_is_refused_by_the_other_host_within_a_second(pair: tuple[Server, Server]) -> None:
    one, two = pair
    with one.client(one.admin_key) as issuer, two.client() as other:
        tokens = issuer.post("/auth/token").json()
        headers = {"authorization": f"Bearer {tokens['access_token']}"}
        assert other.get("/managers", headers=headers).status_code == 200
        assert issuer.post("/auth/revoke", json={"token": tokens["access_token"]}).status_code == 200
        threading.Event().wait(1.0)  # what is promised: from then on it must not pass, not even once
        for _ in range(20):
            assert other.get("/managers", headers=headers).status_code == 401
        body = {"refresh_token": tokens["refresh_token"]}
        assert other.post("/auth/refresh", json=body).status_code == 200  # the family goes on, on either host


def test_key_revoked_by_one_host_ends_at_the_other(pair: tuple[Server, Server]) -> None:
    one, two = pair
    with one.client(one.admin_key) as admin, two.client() as other:
        key = admin.post("/api-keys", json={"user_id": "ada", "permissions": ["host.read"]}).json()
        pair_of_tokens = other.post("/auth/token", headers={"x-api-key": key["api_key"]}).json()
        headers = {"authorization": f"Bearer {pair_of_tokens['access_token']}"}
        assert other.get("/managers", headers=headers).status_code == 200
        assert admin.delete(f"/api-keys/{key['key_id']}").status_code == 204
        threading.Event().wait(1.0)
        assert other.get("/managers", headers=headers).status_code == 401
        assert other.get("/managers", headers={"x-api-key": key["api_key"]}).status_code == 401
        events = admin.get("/audit", params={"event": "token.issued"}).json()["events"]
        assert [event["details"]["key_id"] for event in events] == [key["key_id"]]  # written by the other host


def test_hosts_count_together(pair: tuple[Server, Server]) -> None:
    one, _ = pair
    left = []
    for number in range(6):
        server = pair[number % 2]
        with server.client(one.admin_key) as client:
            header = client.get("/managers").headers["ratelimit"]
        left.append(int(header.partition('"user";r=')[2].partition(";")[0]))
    assert left == list(range(left[0], left[0] - 6, -1))
