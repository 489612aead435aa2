"""The Redis part of the test kit."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from base04.testing.certificates import ThrowawayCA
from base04.testing.servers.process import ServerFailed
from base04.testing.servers.redis import RedisServer
from base04.testing.servers.redis_groups import RedisCluster, SentinelGroup, slot_of
from base04.testing.servers.resp import RespClient, RespError


def test_server_answers_and_is_gone_afterwards(tmp_path: Path) -> None:
    with RedisServer(tmp_path, password="secret") as server:
        assert server.ask("SET", "key", "value") == "OK"
        assert server.ask("GET", "key") == "value"
        with RespClient(server.address) as stranger, pytest.raises(RespError, match="NOAUTH"):
            stranger.command("GET", "key")
    assert not server.running
    with pytest.raises(ConnectionRefusedError):
        server.client()


def test_killed_server_comes_back_on_its_port(tmp_path: Path) -> None:
    with RedisServer(tmp_path, persistent=True) as server:
        address = server.address
        server.ask("SET", "key", "value")
        server.kill()
        assert not server.running
        server.start()
        assert server.address == address
        assert server.ask("GET", "key") == "value"
        server.restart()
        assert server.ask("GET", "key") == "value"


def test_paused_server_keeps_silent_until_it_is_resumed(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server, socket.create_connection(server.address) as connection:
        server.pause()
        connection.settimeout(0.05)
        connection.sendall(b"PING\r\n")
        with pytest.raises(TimeoutError):
            connection.recv(100)
        server.resume()
        connection.settimeout(20)
        assert connection.recv(100) == b"+PONG\r\n"
        server.pause()
    assert not server.running


def test_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, options={"no-such-option": "1"})
    with pytest.raises(ServerFailed, match="no-such-option"):
        server.start()
    assert not server.running


def test_tls_server_is_known_to_its_authority_alone(tmp_path: Path) -> None:
    ca, stranger = ThrowawayCA(tmp_path / "ca"), ThrowawayCA(tmp_path / "stranger")
    with RedisServer(tmp_path / "server", ca=ca, client_certificates=True) as server:
        assert server.ask("PING") == "PONG"
        with pytest.raises(ssl.SSLCertVerificationError):
            RespClient(server.address, tls=ssl.create_default_context(cafile=str(stranger.ca)))
        with (
            RespClient(server.address, tls=ssl.create_default_context(cafile=str(ca.ca))) as nameless,
            pytest.raises(OSError),
        ):
            nameless.command("PING")


def test_cluster_serves_all_slots_and_moves_one(tmp_path: Path) -> None:
    with RedisCluster(tmp_path) as cluster:
        slot = slot_of("key")
        source = cluster.owner(slot)
        target = next(node for node in cluster.masters if node is not source)
        assert source.ask("SET", "key", "value") == "OK"
        with pytest.raises(RespError, match=f"MOVED {slot}"):
            target.ask("GET", "key")
        cluster.move_slot(slot, target)
        assert cluster.owner(slot) is target
        assert target.ask("GET", "key") == "value"


def test_replica_takes_the_place_of_a_killed_master(tmp_path: Path) -> None:
    with SentinelGroup(tmp_path) as group:
        former = group.master
        former.kill()
        assert group.wait_for_failover(former).ask("SET", "key", "value") == "OK"
