"""Who is counted for what over HTTP: strangers spend what is theirs, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from base04.testing.servers.redis import RedisServer
from serve_kit import Server, write

Serve = Callable[..., Server]

PACK = """
pack: try
version: 1.0.0
actions:
  open: {summary: Open to all, handler: ".handlers:nothing", access: public}
  seldom: {summary: Once a day, handler: ".handlers:nothing", access: public, rate_limit: 1/day}
  mine: {summary: For callers who are known, handler: ".handlers:nothing"}
  outer: {summary: Runs another one, handler: ".handlers:outer"}
"""
HANDLERS = """
from base04_hookspecs.action_discovery import ActionContext

async def nothing():
    return None

async def outer(context: ActionContext):
    for _ in range(20):
        await context.run("try.mine")
"""
QUOTA = "https://iana.org/assignments/http-problem-types#quota-exceeded"
BANNED = "https://iana.org/assignments/http-problem-types#abnormal-usage-detected"


def started(serve: Serve, folder: Path, limits: str, more: str = "") -> Server:
    """Serve behind a proxy, so that callers may come from any address."""
    write(folder / "actions" / "try.yaml", PACK)
    write(folder / "actions" / "handlers.py", HANDLERS)
    settings = f"""
server: {{trusted_proxies: ['127.0.0.1']{more}}}
managers:
  action_discovery: {{folders: [actions]}}
  rate_limiter: {{limits: {limits}}}
"""
    return serve(settings=settings)


def left(answer: httpx.Response) -> dict[str, int]:
    """Return what is left of each limit, by the names of the header."""
    found = {}
    for part in answer.headers.get("ratelimit", "").split(", "):
        name, _, values = part.partition(";")
        if name:
            found[name.strip('"')] = int(values.partition("r=")[2].partition(";")[0])
    return found


def from_address(server: Server, address: str, key: str | None = None) -> Any:
    return server.client(key, **{"x-forwarded-for": address})


def test_flood_of_bad_keys_locks_out_its_own_address_alone(serve: Serve, tmp_path: Path) -> None:
    server = started(serve, tmp_path, "{ip: 40/hour}")
    with from_address(server, "203.0.113.66", server.admin_key[:-1] + "x") as stranger:
        statuses = [stranger.post("/actions/try.mine").status_code for _ in range(30)]
    assert statuses[:4] == [401] * 4
    assert statuses[-1] == 429
    with from_address(server, "203.0.113.66", server.admin_key) as same_address:
        assert same_address.post("/actions/try.mine").status_code == 429
    with from_address(server, "198.51.100.7", server.admin_key) as owner:
        answer = owner.post("/actions/try.mine")
        assert answer.status_code == 200
        assert left(answer)["user"] == 1199  # what the stranger did has cost the owner nothing


def test_failed_authentication_costs_more_than_a_call(serve: Serve, tmp_path: Path) -> None:
    server = started(serve, tmp_path, "{ip: 100/hour}", ", denial_cost: 7")
    with from_address(server, "203.0.113.1") as client:
        assert left(client.post("/actions/try.open")) == {"ip": 99}
        assert client.post("/actions/try.open", headers={"x-api-key": "bad"}).status_code == 401
        assert client.post("/auth/refresh", json={"refresh_token": "bad"}).status_code == 400
        assert client.post("/actions/try.mine").status_code == 401  # nothing was shown: a call like any other
        assert left(client.post("/actions/try.open")) == {"ip": 99 - 7 - 7 - 1 - 1}


def test_refused_address_is_refused_before_anything_else(serve: Serve, tmp_path: Path) -> None:
    server = started(serve, tmp_path, "{ip: 2/hour}")
    with from_address(server, "203.0.113.1") as client:
        for _ in range(2):
            assert client.post("/actions/try.open").status_code == 200
        for headers, content in (
            ({"x-api-key": "bad"}, b"{}"),
            ({"authorization": "Bearer bad"}, b"{}"),
            ({"content-type": "application/json"}, b"not json"),
            ({}, b"x" * 2_000_000),
        ):
            refused = client.post("/actions/try.mine", headers=headers, content=content)
            assert (refused.status_code, refused.json()["type"]) == (429, QUOTA)
            assert refused.json()["violated-policies"] == ["ip"]
        assert client.get("/nothing").status_code == 429
        assert client.get("/health").status_code == 200
        assert client.get("/health/live").status_code == 200


def test_each_level_is_counted_once_for_a_request(serve: Serve, tmp_path: Path) -> None:
    server = started(serve, tmp_path, "{ip: 1000/hour, user: 1000/hour, api_key: 1000/hour}")
    with from_address(server, "203.0.113.1", server.admin_key) as client:
        token = client.post("/auth/token").json()["access_token"]
        before = left(client.get("/managers"))
        assert set(before) == {"ip", "user", "api_key"}
        after = left(client.post("/actions/try.outer"))
        assert after == {name: value - 1 for name, value in before.items()}
    with from_address(server, "203.0.113.1") as client:
        client.headers["authorization"] = f"Bearer {token}"
        first, second = left(client.post("/actions/try.mine")), left(client.post("/actions/try.mine"))
        assert first == {name: value - 1 for name, value in after.items()}
        assert second == {name: value - 1 for name, value in first.items()}  # known by now, and counted in one step
        missing, route = left(client.post("/actions/try.none")), left(client.get("/managers"))
        assert missing == {name: value - 3 for name, value in after.items()}
        assert route == {name: value - 4 for name, value in after.items()}


def test_limit_of_a_key_counts_for_its_tokens_too(serve: Serve, tmp_path: Path) -> None:
    server = started(serve, tmp_path, "{ip: 1000/hour}")
    with server.admin() as admin:
        key = admin.post("/api-keys", json={"user_id": "ada", "rate_limit": "3/hour"}).json()["api_key"]
    with from_address(server, "203.0.113.1", key) as client:
        token = client.post("/auth/token").json()["access_token"]
        assert left(client.post("/actions/try.mine"))["api_key"] == 1
    with from_address(server, "203.0.113.1") as client:
        client.headers["authorization"] = f"Bearer {token}"
        answer = client.post("/actions/try.mine")
        assert '"api_key";q=3;w=3600' in answer.headers["ratelimit-policy"]
        assert left(answer)["api_key"] == 0
        refused = client.post("/actions/try.mine")
        assert (refused.status_code, refused.json()["violated-policies"]) == (429, ["api_key"])


def test_headers_say_what_applies_and_when_to_come_back(serve: Serve, tmp_path: Path) -> None:
    server = started(serve, tmp_path, "{ip: [5/minute, 100/day]}")
    with from_address(server, "203.0.113.1") as client:
        answer = client.post("/actions/try.seldom")
        policy = '"ip-5-60";q=5;w=60, "ip-100-86400";q=100;w=86400, "action";q=1;w=86400'
        assert answer.headers["ratelimit-policy"] == policy
        assert left(answer) == {"ip-5-60": 4, "ip-100-86400": 99, "action": 0}
        refused = client.post("/actions/try.seldom")
        assert refused.status_code == 429
        wait = int(refused.headers["retry-after"])
        assert refused.headers["ratelimit"] == f'"action";r=0;t={wait}'
        assert 86000 < wait <= 86400
        assert "ratelimit" in client.get("/nothing").headers
        assert "ratelimit" not in client.get("/health/live").headers


def test_banned_address_is_told_so(serve: Serve, tmp_path: Path) -> None:
    write(
        tmp_path / "plugins" / "bans.py",
        """
        from base04_hookspecs import hookimpl

        @hookimpl
        def startup():
            async def ban(app):
                await app.rate_limiter_manager.ban_identifier("203.0.113.9", 600, reason="rude")
            return [ban]
        """,
    )
    write(tmp_path / "actions" / "try.yaml", PACK)
    write(tmp_path / "actions" / "handlers.py", HANDLERS)
    settings = """
    server: {trusted_proxies: ['127.0.0.1']}
    plugins: {paths: [plugins]}
    managers: {action_discovery: {folders: [actions]}}
    """
    server = serve(settings=settings)
    with from_address(server, "203.0.113.9", server.admin_key) as client:
        refused = client.post("/actions/try.mine")
        assert (refused.status_code, refused.json()["type"]) == (429, BANNED)
        assert 500 < int(refused.headers["retry-after"]) <= 600
        assert "rude" not in refused.text
    with from_address(server, "203.0.113.8", server.admin_key) as client:
        assert client.post("/actions/try.mine").status_code == 200


def test_route_says_what_becomes_of_calls_that_cannot_be_counted(serve: Serve, tmp_path: Path) -> None:
    write(tmp_path / "actions" / "try.yaml", PACK)
    write(tmp_path / "actions" / "handlers.py", HANDLERS)
    settings = """
    server: {rate_limit_on_unavailable: {"/actions/try.mine": closed, "/actions/try.open": local}}
    managers:
      action_discovery: {folders: [actions]}
      rate_limiter: {limits: {ip: 2/hour}, gcra: {on_unavailable: open}}
      redis: {provider: server, server: {url: "URL", timeout: 1s, retries: 0}}
    """
    with RedisServer(tmp_path / "redis") as redis:
        server = serve(settings=settings.replace("URL", redis.url))
        with server.client(server.admin_key) as client:
            assert left(client.post("/actions/try.mine"))["ip"] == 1
            redis.kill()
            closed = client.post("/actions/try.mine")
            assert (closed.status_code, "retry-after" in closed.headers) == (503, True)
            assert [client.post("/actions/try.open").status_code for _ in range(3)] == [200, 200, 429]
            assert [client.get("/actions").status_code for _ in range(3)] == [200] * 3
            redis.start()


def test_body_of_a_refused_caller_is_not_waited_for(serve: Serve, tmp_path: Path) -> None:
    server = started(serve, tmp_path, "{ip: 1000/hour}")
    host, port = server.address

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection(host, port)
        head = ("POST /actions/try.mine HTTP/1.1", "host: x", "content-type: application/json", "content-length: 100")
        writer.write("\r\n".join((*head, "", "")).encode())
        line = await asyncio.wait_for(reader.readline(), 30)
        writer.close()
        return line

    assert asyncio.run(ask()).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("forged", ["10.0.0.1", "203.0.113.1, 10.0.0.1", "::1"])
def test_forged_address_does_not_escape_a_limit(serve: Serve, tmp_path: Path, forged: str) -> None:
    write(tmp_path / "actions" / "try.yaml", PACK)
    write(tmp_path / "actions" / "handlers.py", HANDLERS)
    server = serve(
        settings="managers: {action_discovery: {folders: [actions]}, rate_limiter: {limits: {ip: 1/hour}}}\n"
    )
    with server.client() as client:
        assert client.post("/actions/try.open").status_code == 200
        headers = {"x-forwarded-for": forged, "forwarded": f"for={forged}", "x-real-ip": forged}
        assert client.post("/actions/try.open", headers=headers).status_code == 429
