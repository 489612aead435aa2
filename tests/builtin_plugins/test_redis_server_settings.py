"""Settings of the provider ``server``: URLs, secrets, and what the servers refuse at the start."""

from __future__ import annotations

import asyncio
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from base04.testing.certificates import ThrowawayCA
from base04.testing.servers.process import free_port
from base04.testing.servers.redis import RedisServer
from base04.testing.servers.redis_groups import RedisCluster, SentinelGroup
from base04_builtin.redis.server import ServerRedisManager, ServerRedisSettings
from base04_builtin.redis.server.place import Place
from base04_hookspecs.errors import ConfigurationError, ManagerError, ManagerUnavailable
from redis_kit import PATIENT, started

CANARY = "canary-5f1c"


def place(url: str, **settings: Any) -> Place:
    return ServerRedisSettings.model_validate({"url": url, **settings}).place()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://host", Place("single", False, (("host", 6379),))),
        ("redis://host:7000/2", Place("single", False, (("host", 7000),), 2)),
        ("redis://host?db=2", Place("single", False, (("host", 6379),), 2)),
        ("rediss://[::1]:7000", Place("single", True, (("::1", 7000),))),
        ("redis://[::1]", Place("single", False, (("::1", 6379),))),
        ("redis://:p%40ss@host", Place("single", False, (("host", 6379),), password="p@ss")),
        ("redis://me:pw@host", Place("single", False, (("host", 6379),), username="me", password="pw")),
        ("unix:///run/redis.sock?db=1", Place("single", False, (("/run/redis.sock", 0),), 1)),
        ("redis+cluster://a:1,b:2", Place("cluster", False, (("a", 1), ("b", 2)))),
        ("rediss+cluster://a", Place("cluster", True, (("a", 6379),))),
        ("redis+sentinel://a,b:2/main/3", Place("sentinel", False, (("a", 26379), ("b", 2)), 3, "main")),
        ("rediss+sentinel://a/main", Place("sentinel", True, (("a", 26379),), 0, "main")),
    ],
)
def test_urls_are_read(url: str, expected: Place) -> None:
    assert place(url) == expected


def test_settings_take_the_place_of_what_the_url_says() -> None:
    got = place("redis://me:old@host", username="other", password="new")
    assert (got.username, got.password) == ("other", "new")
    assert place("redis://host", cluster=True).kind == "cluster"
    watched = place("redis:///2", sentinel={"service": "main", "nodes": ["a:1", "b"]})
    assert watched == Place("sentinel", False, (("a", 1), ("b", 26379)), 2, "main")


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        (f"http://{CANARY}@host", {}),
        (f"redis://:{CANARY}/x@host", {}),
        (f"redis://:pw@host:{CANARY}", {}),
        (f"redis://host/{CANARY}", {}),
        (f"redis://host?password={CANARY}", {}),
        (f"redis://host#{CANARY}", {}),
        (f"redis://[{CANARY}", {}),
        (f"redis://:{CANARY}@a,b", {}),
        (f"redis://:{CANARY}@", {}),
        (f"unix://{CANARY}", {}),
        (f"redis+sentinel://:{CANARY}@a", {}),
        (f"redis+cluster://:{CANARY}@a/1", {}),
        (f"redis://:{CANARY}@a", {"sentinel": {"service": "main", "nodes": ["b"]}}),
        (f"redis://:{CANARY}@a", {"sentinel": {"service": "main"}}),
        (f"redis+sentinel://:{CANARY}@a/main", {"cluster": True}),
        (f"redis+sentinel://:{CANARY}@a/main", {"sentinel": {"service": "other"}}),
        (f"redis://:{CANARY}@a", {"tls": {}}),
        (f"redis://:{CANARY}@a", {"pool_size": 0}),
    ],
)
def test_settings_that_cannot_work_are_refused_without_a_secret(url: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        place(url, **settings)
    assert CANARY not in str(caught.value)


async def refused(url: str, **settings: Any) -> str:
    """Start in vain and return the reason, which is final: the host tries ManagerUnavailable again and nothing else."""
    with pytest.raises(ConfigurationError) as caught:
        async with started(url, **settings):
            pass
    return str(caught.value)


async def test_wrong_password_is_final(tmp_path: Path) -> None:
    with RedisServer(tmp_path, password="right") as server:
        assert "username" in await refused(server.url)
        assert "password" in await refused(server.url, password="wrong")
        assert "password" in await refused(server.url, username="nobody", password="right")


async def test_wrong_authority_and_wrong_host_are_final(tmp_path: Path) -> None:
    ca, stranger = ThrowawayCA(tmp_path / "ca"), ThrowawayCA(tmp_path / "stranger")
    with RedisServer(tmp_path / "server", ca=ca, names=["localhost"]) as server:
        assert "certificate is not accepted" in await refused(server.url)
        assert "certificate is not accepted" in await refused(server.url, tls={"ca": stranger.ca})
        other_name = server.url.replace("localhost", "127.0.0.1")
        assert "127.0.0.1" in await refused(other_name, tls={"ca": ca.ca})
        async with started(server.url, tls={"ca": ca.ca}) as manager:
            assert await manager.ping() is True
        with capture_logs() as logs:
            async with started(other_name, tls={"verify": False}) as manager:
                assert await manager.ping() is True
        assert ["not verified" in entry["event"] for entry in logs] == [True]


async def test_files_of_tls_that_cannot_be_used_are_final(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    url = "rediss://localhost:1"
    assert "nowhere.pem" in await refused(url, tls={"ca": tmp_path / "nowhere.pem"})
    assert "empty.pem" in await refused(url, tls={"ca": tmp_path / "empty.pem"})
    assert "empty.pem" in await refused(url, tls={"certificate": tmp_path / "empty.pem"})


async def test_tls_to_a_server_without_is_suspected(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server, pytest.raises(ManagerUnavailable, match="speak TLS"):
        async with started(server.url.replace("redis:", "rediss:"), connect_timeout=0.2):
            pass


async def test_tls_to_something_else_is_final() -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    other = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with other:
        port = other.sockets[0].getsockname()[1]
        assert "TLS cannot be agreed upon" in await refused(f"rediss://127.0.0.1:{port}")


async def test_server_of_another_kind_is_final(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "single") as server:
        assert "belongs to no cluster" in await refused(server.url, cluster=True)
    with RedisCluster(tmp_path / "cluster") as cluster:
        assert "belongs to a cluster" in await refused(cluster.masters[0].url)
    with SentinelGroup(tmp_path / "sentinel") as group:
        assert "know no service 'other'" in await refused(group.url.replace("main", "other"))


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster", "redis+sentinel", "unix"])
async def test_nobody_there_is_for_another_time(scheme: str, tmp_path: Path) -> None:
    url = {
        "redis+sentinel": f"redis+sentinel://127.0.0.1:{free_port()}/main",
        "unix": f"unix://{tmp_path}/nobody",
    }.get(scheme, f"{scheme}://127.0.0.1:{free_port()}")
    with pytest.raises(ManagerUnavailable):
        async with started(url):
            pass


async def test_host_name_that_nobody_knows_is_named() -> None:
    with pytest.raises(ManagerUnavailable, match=r"nobody\.invalid"):
        async with started("redis://nobody.invalid:6379"):
            pass


async def test_unix_socket_works(tmp_path: Path) -> None:
    with RedisServer(tmp_path, options={"unixsocket": "s"}):
        async with started(f"unix://{tmp_path}/s?db=1") as manager:
            assert await manager.set("key", 1) is True
            assert await manager.get("key") == 1


async def test_restricted_user_gets_clear_errors(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        server.ask("ACL", "SETUSER", "guest", "on", ">pw", "~guest:*", "+get", "+ping")
        async with started(server.url, username="guest", password="pw") as manager:
            assert await manager.get("guest:1") is None
            with pytest.raises(ManagerError, match="permission"):
                await manager.set("guest:1", 1)
            with pytest.raises(ManagerError, match="permission"):
                await manager.get("other")
            assert (await manager.health_check())["status"] == "healthy"


async def test_secrets_are_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[object] = []
    with RedisServer(tmp_path, password=CANARY) as server, capture_logs() as logs:
        for url, settings in [
            (server.url.replace("//", f"//:{CANARY}@"), {}),
            (server.url, {"password": CANARY}),
            (server.url.replace("//", f"//user-{CANARY}:{CANARY}-wrong@"), {}),
        ]:
            manager = ServerRedisManager(ServerRedisSettings.model_validate({"url": url, **PATIENT, **settings}))
            said += [repr(manager), repr(manager._settings), str(manager._settings.model_dump()), repr(vars(manager))]
            try:
                await manager.start()
                said += [await manager.health_check(), repr(vars(manager)), repr(vars(manager._topology))]
            except ConfigurationError as error:
                said += traceback.format_exception(error)
            server.pause()
            try:
                await manager.stop()
            finally:
                server.resume()
    assert CANARY not in str(said)
    assert CANARY not in str(logs)
    assert CANARY not in caplog.text
