"""Several ``redis-server`` processes that belong together: a cluster, or a master that sentinels watch."""

from __future__ import annotations

import time
from binascii import crc_hqx
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from base04.testing.servers.process import START_TIMEOUT_S, ServerFailed, ServerProcess, free_port
from base04.testing.servers.redis import RedisServer, redis_program
from base04.testing.servers.resp import RespClient, RespError

SLOTS: Final = 16384
_CLUSTER_VERSION: Final = (7, 0)  # the bus has a port of its own choice, and there is sharded pub/sub


def slot_of(key: str) -> int:
    """Return the slot of a key without a hash tag (https://redis.io/docs/reference/cluster-spec/)."""
    return crc_hqx(key.encode(), 0) % SLOTS


class ClusterNode(RedisServer):
    """One node of a cluster."""

    def __init__(self, folder: Path) -> None:
        self.bus_port = 0
        options = {"cluster-enabled": "yes", "cluster-node-timeout": "1500", "cluster-replica-validity-factor": "0"}
        super().__init__(folder, options=options, version=_CLUSTER_VERSION)

    def place(self) -> None:
        super().place()
        self.bus_port = free_port()

    def command(self) -> list[str]:
        return [*super().command(), "--cluster-port", str(self.bus_port)]

    @property
    def id(self) -> str:
        """The name that the cluster knows it by."""
        return str(self.ask("CLUSTER", "MYID"))


class RedisCluster:
    """Masters that share the slots evenly, each with as many replicas as asked for. A context manager."""

    def __init__(self, folder: Path, *, masters: int = 3, replicas: int = 0) -> None:
        self.masters = [ClusterNode(folder / f"m{number}") for number in range(masters)]
        self.replicas = [ClusterNode(folder / f"r{number}") for number in range(masters * replicas)]
        self._stack = ExitStack()

    @property
    def nodes(self) -> list[ClusterNode]:
        """All of them."""
        return [*self.masters, *self.replicas]

    @property
    def url(self) -> str:
        """What a client connects to; any node tells it of the others."""
        return "redis+cluster://" + ",".join(f"{node.host}:{node.port}" for node in self.masters)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for node in self.nodes:
                stack.enter_context(node)
            self._join()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def owner(self, slot: int) -> ClusterNode:
        """Return the node that serves a slot."""
        for first, last, master, *_ in self._ask_any("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == master[1])
        raise LookupError(f"No node serves the slot {slot}.")

    def move_slot(self, slot: int, to: ClusterNode) -> None:
        """Move a slot and its keys to another master, as an operator does."""
        self.begin_move(slot, to)
        source = self.owner(slot)
        while names := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.ask("MIGRATE", to.host, to.port, "", 0, 20_000, "KEYS", *names)
        self.end_move(slot, to)

    def begin_move(self, slot: int, to: ClusterNode) -> None:
        """Let the owner answer ASK for keys that it does not have, and the other take what it is asked for."""
        source = self.owner(slot)
        to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id)

    def end_move(self, slot: int, to: ClusterNode) -> None:
        """Give the slot to its new owner."""
        name = to.id
        for node in [to, *(other for other in self.masters if other is not to)]:
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", name)

    def wait_until_ok(self) -> None:
        """Wait until every running node says that all slots are served."""
        _wait(lambda: all("cluster_state:ok" in str(node.ask("CLUSTER", "INFO")) for node in self._up()))

    def _join(self) -> None:
        first = self.masters[0]
        share = -(-SLOTS // len(self.masters))
        for number, node in enumerate(self.masters):
            node.ask("CLUSTER", "ADDSLOTSRANGE", number * share, min((number + 1) * share, SLOTS) - 1)
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            node.ask("CLUSTER", "MEET", first.host, first.port, first.bus_port)
        _wait(lambda: all(self._knows(node) == len(self.nodes) for node in self.nodes))
        for number, replica in enumerate(self.replicas):
            replica.ask("CLUSTER", "REPLICATE", self.masters[number % len(self.masters)].id)
        self.wait_until_ok()
        if self.replicas:
            _wait(lambda: all("master_link_status:up" in str(one.ask("INFO", "replication")) for one in self.replicas))

    def _knows(self, node: ClusterNode) -> int:
        lines = str(node.ask("CLUSTER", "NODES")).splitlines()
        return sum(" handshake " not in line for line in lines)

    def _up(self) -> list[ClusterNode]:
        return [node for node in self.nodes if node.running]

    def _ask_any(self, *parts: str | int) -> Any:
        return self._up()[0].ask(*parts)


class Sentinel(ServerProcess):
    """One sentinel, which watches a master and lets a replica take its place."""

    def __init__(self, folder: Path, master: RedisServer, service: str, quorum: int) -> None:
        super().__init__(folder)
        self._program = redis_program()
        self._master, self._service, self._quorum = master, service, quorum
        self.port = 0

    def place(self) -> None:
        self.port = free_port()
        (self.folder / "sentinel.conf").write_text(
            f"port {self.port}\nbind {self.host}\ndir {self.folder}\n"
            f"sentinel monitor {self._service} {self._master.host} {self._master.port} {self._quorum}\n"
            f"sentinel down-after-milliseconds {self._service} 700\n"
            f"sentinel failover-timeout {self._service} 3000\n"
            f"sentinel parallel-syncs {self._service} 1\n"
        )

    def command(self) -> list[str]:
        return [self._program, str(self.folder / "sentinel.conf"), "--sentinel"]

    def answers(self) -> bool:
        return f"process_id:{self.pid}\r" in self.ask("INFO", "server")

    def ask(self, *parts: str | int) -> Any:
        """Send one command over a connection of its own and return the reply."""
        with RespClient((self.host, self.port)) as client:
            return client.command(*parts)


class SentinelGroup:
    """A master, its replica, and sentinels that let the replica take over. A context manager."""

    service: Final = "main"

    def __init__(self, folder: Path, *, sentinels: int = 1) -> None:
        self.servers = [RedisServer(folder / f"server{number}") for number in range(2)]
        quorum = sentinels // 2 + 1
        self.sentinels = [
            Sentinel(folder / f"sentinel{number}", self.servers[0], self.service, quorum) for number in range(sentinels)
        ]
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """What a client connects to."""
        nodes = ",".join(f"{one.host}:{one.port}" for one in self.sentinels)
        return f"redis+sentinel://{nodes}/{self.service}/0"

    @property
    def master(self) -> RedisServer:
        """The server that the sentinels call the master."""
        address = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
        return next(server for server in self.servers if str(server.port) == address[1])

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            master, replica = (stack.enter_context(server) for server in self.servers)
            replica.ask("REPLICAOF", master.host, master.port)
            _wait(lambda: "master_link_status:up" in str(replica.ask("INFO", "replication")))
            for sentinel in self.sentinels:
                stack.enter_context(sentinel)
            _wait(self._all_known)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def wait_for_failover(self, former: RedisServer) -> RedisServer:
        """Wait until another server than ``former`` is the master, and return it."""
        _wait(lambda: self.master is not former and "role:master" in str(self.master.ask("INFO", "replication")))
        return self.master

    def _all_known(self) -> bool:
        for sentinel in self.sentinels:
            replicas = sentinel.ask("SENTINEL", "REPLICAS", self.service)
            others = sentinel.ask("SENTINEL", "SENTINELS", self.service)
            if len(replicas) != 1 or len(others) != len(self.sentinels) - 1:
                return False
        return True


def _wait(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            if holds():
                return
        except (OSError, RespError):
            pass  # a node that is restarting or loading
        if time.monotonic() > give_up:
            raise ServerFailed("The servers did not come together in time.")
        time.sleep(0.05)
