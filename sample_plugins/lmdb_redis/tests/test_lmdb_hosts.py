"""Two hosts that are one application, on one machine, without any server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lmdb_host import LmdbHost
from websockets.sync.client import ClientConnection, connect

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LmdbHost, LmdbHost]]:
    folder = tmp_path_factory.mktemp("hosts")
    with LmdbHost(folder / "one", folder) as one, LmdbHost(folder / "two", folder) as two:
        yield one, two


@pytest.fixture(scope="module")
def key(hosts: tuple[LmdbHost, LmdbHost]) -> str:
    return hosts[0].run("keys", "create", "--user", "ada", "--permission", "*")


def enter(host: LmdbHost, key: str) -> ClientConnection:
    with host.client(key) as client:
        token = client.post("/auth/token").raise_for_status().json()["access_token"]
    address = f"ws://{host.host}:{host.port}/ws"
    return connect(address, additional_headers={"authorization": f"Bearer {token}"}, open_timeout=PATIENCE_S)


def say(socket: ClientConnection, **message: Any) -> None:
    socket.send(json.dumps(message))


def wait_for(socket: ClientConnection, **wanted: Any) -> dict[str, Any]:
    while True:
        message: dict[str, Any] = json.loads(socket.recv(PATIENCE_S))
        if wanted.items() <= message.items():
            return message


def test_provider_takes_the_place_of_the_built_in_one(hosts: tuple[LmdbHost, LmdbHost], key: str) -> None:
    with hosts[0].client(key) as client:
        assert client.get("/health").json()["status"] == "healthy"
    line = next(line for line in hosts[0].run("managers").splitlines() if line.startswith("redis"))
    assert "lmdb (replaces builtin-redis:memory)" in line
    assert "healthy" in line


def test_actions_of_both_count_together(hosts: tuple[LmdbHost, LmdbHost], key: str) -> None:
    counts = []
    for number in range(6):
        with hosts[number % 2].client(key) as client:
            counts.append(client.post("/actions/visits.visit", json={"name": "ada"}).raise_for_status().json())
    assert counts == [1, 2, 3, 4, 5, 6]


def test_limits_of_both_count_together(hosts: tuple[LmdbHost, LmdbHost], key: str) -> None:
    left = []
    for number in range(6):
        with hosts[number % 2].client(key) as client:
            header = client.get("/managers").raise_for_status().headers["ratelimit"]
        left.append(int(header.partition('"user";r=')[2].partition(";")[0]))
    assert left == list(range(left[0], left[0] - 6, -1))


def test_token_that_one_revokes_is_refused_by_the_other(hosts: tuple[LmdbHost, LmdbHost], key: str) -> None:
    one, two = hosts
    with one.client(key) as issuer, two.client(key) as other:
        token = issuer.post("/auth/token").json()["access_token"]
        del other.headers["x-api-key"]
        other.headers["authorization"] = f"Bearer {token}"
        assert other.get("/managers").status_code == 200
        assert issuer.post("/auth/revoke", json={"token": token}).status_code == 200
        attempts = 0
        while other.get("/managers").status_code != 401:
            attempts += 1
            assert attempts < 10_000


def test_rooms_reach_across_hosts_and_their_history_too(hosts: tuple[LmdbHost, LmdbHost], key: str) -> None:
    one, two = hosts
    with enter(one, key) as ada, enter(two, key) as bob:
        for socket in (ada, bob):
            say(socket, type="join", id=1, room="news", presence=True)
            position = wait_for(socket, type="ack", id=1)["result"]
        for number in range(20):
            say(ada if number % 2 else bob, type="emit", event="headline", room="news", data=number)
        events = [[wait_for(socket, type="event") for _ in range(20)] for socket in (ada, bob)]
        assert events[0] == events[1]
        assert [event["offset"] for event in events[0]] == list(range(position["offset"] + 1, position["offset"] + 21))
        assert sorted(event["data"] for event in events[0]) == list(range(20))
    with enter(two, key) as back:
        since = {"epoch": position["epoch"], "offset": position["offset"] + 5}
        say(back, type="join", id=2, room="news", since=since)
        again = [wait_for(back, type="event") for _ in range(15)]
        assert again == events[0][5:]
        assert wait_for(back, type="ack", id=2)["result"]["recovered"] is True


def test_state_that_one_changes_is_what_the_other_reads(hosts: tuple[LmdbHost, LmdbHost], key: str) -> None:
    one, two = hosts
    with one.client(key) as writer, two.client(key) as reader:
        writer.put("/state/door", json={"type": "resource", "data": {"n": 0}}).raise_for_status()
        for number in range(1, 6):
            assert reader.get("/state/door").json()["data"] == {"n": number - 1}
            writer.patch("/state/door", json={"data": {"n": number}}).raise_for_status()


def test_what_is_kept_outlives_a_host_that_is_killed(tmp_path: Path) -> None:
    with LmdbHost(tmp_path / "one", tmp_path) as host:
        key = host.run("keys", "create", "--user", "ada", "--permission", "*")
        with host.client(key) as client:
            assert client.post("/actions/visits.visit", json={"name": "bob"}).json() == 1
        host.restart()
        with host.client(key) as client:
            assert client.post("/actions/visits.visit", json={"name": "bob"}).json() == 2


def test_reload_moves_over_without_losing_anything(tmp_path: Path) -> None:
    with LmdbHost(tmp_path / "one", tmp_path) as host:
        key = host.run("keys", "create", "--user", "ada", "--permission", "*")
        settings = json.loads((host.folder / "base04.yaml").read_text())
        settings["managers"]["redis"]["lmdb"]["size"] = "64MiB"
        with host.client(key) as client:
            assert client.post("/actions/visits.visit", json={"name": "eve"}).json() == 1
            (host.folder / "base04.yaml").write_text(json.dumps(settings))
            report = client.post("/reload").raise_for_status().json()
            assert "redis" in report["renewed"]
            assert client.post("/actions/visits.visit", json={"name": "eve"}).json() == 2


def test_workers_of_one_host_share_the_store(tmp_path: Path) -> None:
    with LmdbHost(tmp_path / "one", tmp_path, server={"workers": 2}) as host:
        key = host.run("keys", "create", "--user", "ada", "--permission", "*")
        counts: list[int] = []
        processes: set[int] = set()
        while len(processes) < 2:
            assert len(counts) < 1000
            with host.client(key) as client:  # a connection of its own, so that either may answer
                processes.add(client.post("/actions/visits.where").raise_for_status().json())
                counts.append(client.post("/actions/visits.visit", json={"name": "ada"}).raise_for_status().json())
    assert counts == list(range(1, len(counts) + 1))
