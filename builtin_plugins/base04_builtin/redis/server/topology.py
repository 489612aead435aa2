"""Which server a key is on: the same one for all keys, or the master of the moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import structlog
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AskError, ReadOnlyError, RedisError

from base04_builtin.redis.server.connector import Connector, close_now, shown
from base04_builtin.redis.server.failures import Lost, NotSent
from base04_builtin.redis.server.node import Node
from base04_builtin.redis.server.packing import pack
from base04_builtin.redis.server.place import Address
from base04_hookspecs.errors import ConfigurationError

log = structlog.get_logger()

NodeFactory = Callable[[Address], Node]


class Topology(Protocol):
    """Where keys live, and what to do about it when a server does not answer as it should.

    ``deadline`` is on the loop's clock. ``open`` and ``heal`` raise what ``Node.exchange`` raises.
    """

    sharded: bool
    """Whether channels live on nodes as keys do."""

    async def open(self, deadline: float) -> None:
        """Find the servers and make sure that they answer.

        Raises:
            ConfigurationError: they are not what the settings say.
        """

    def node_for(self, key: bytes) -> Node:
        """Return the server of a key; raises NotSent while none is known."""

    def masters(self) -> list[Node]:
        """Return the servers that hold the keys; raises NotSent while none is known."""

    async def heal(self, failed: Node | None, deadline: float) -> None:
        """Look again where the keys are, after a server has not answered or has said that it is not the one."""

    def redirected(self, error: AskError) -> Node:
        """Return the server that another one says has the key."""

    async def close(self) -> None:
        """Close all connections."""


class SingleTopology:
    """One server, always at the same address."""

    sharded = False

    def __init__(self, address: Address, make: NodeFactory) -> None:
        self._node = make(address)

    async def open(self, deadline: float) -> None:
        await self._node.exchange(pack("PING"), deadline)
        try:
            described = await self._node.exchange(pack("INFO", "cluster"), deadline)
        except RedisError:
            return  # it may be forbidden
        if b"cluster_enabled:1" in described:
            raise _is_cluster(self._node)

    def node_for(self, key: bytes) -> Node:
        return self._node

    def masters(self) -> list[Node]:
        return [self._node]

    async def heal(self, failed: Node | None, deadline: float) -> None:
        """Forget open connections: behind the name may be another server by now."""
        await self._node.drop_idle()

    def redirected(self, error: AskError) -> Node:
        raise _is_cluster(self._node) from error

    async def close(self) -> None:
        await self._node.close()


def _is_cluster(node: Node) -> ConfigurationError:
    return ConfigurationError(
        f"The Redis server {node} belongs to a cluster: set 'cluster: true', or write 'redis+cluster://' in the URL."
    )


class SentinelTopology:
    """The master that the sentinels know of at the moment."""

    sharded = False

    def __init__(
        self, sentinels: tuple[Address, ...], service: str, connector: Connector, wait_s: float, make: NodeFactory
    ) -> None:
        self._sentinels = list(sentinels)
        self._service = service
        self._connector = connector
        self._wait_s = wait_s
        self._make = make
        self._master: Node | None = None
        self._finding = asyncio.Lock()
        self._found = 0

    async def open(self, deadline: float) -> None:
        await self._find(deadline)
        await self.masters()[0].exchange(pack("PING"), deadline)

    def node_for(self, key: bytes) -> Node:
        if self._master is None:
            raise NotSent(f"no sentinel knows the master of {self._service!r}.")
        return self._master

    def masters(self) -> list[Node]:
        return [self.node_for(b"")]

    async def heal(self, failed: Node | None, deadline: float) -> None:
        """Ask the sentinels anew, once for all who want to know at the same time."""
        found = self._found
        async with self._finding:
            if found == self._found:
                await self._find(deadline)

    def redirected(self, error: AskError) -> Node:
        raise _is_cluster(self.node_for(b"")) from error

    async def close(self) -> None:
        if self._master is not None:
            await self._master.close()

    async def _find(self, deadline: float) -> None:
        address = await self._ask_all(deadline)
        self._found += 1
        former = self._master
        if former is None or former.address != address:
            self._master = self._make(address)
            if former is not None:
                log.info("another redis server is the master", service=self._service, master=shown(address))
                await former.close()
        else:
            await former.drop_idle()

    async def _ask_all(self, deadline: float) -> Address:
        """Ask one sentinel after the other; the one that answers is the first to be asked next time."""
        unknown, failure = 0, None
        for sentinel in list(self._sentinels):
            try:
                reply = await self._ask(sentinel, deadline)
            except (NotSent, Lost) as error:
                failure = error
                continue
            self._sentinels.remove(sentinel)
            self._sentinels.insert(0, sentinel)
            if reply is not None:
                return reply[0].decode(), int(reply[1])
            unknown += 1
        if failure is None and unknown:
            raise ConfigurationError(
                f"The sentinels know no service {self._service!r}: see 'sentinel monitor' in their configuration."
            )
        raise NotSent(f"no sentinel knows the master of {self._service!r} ({failure})") from failure

    async def _ask(self, sentinel: Address, deadline: float) -> Any:
        connection = await self._connector.open(sentinel, deadline)
        try:
            async with asyncio.timeout_at(min(deadline, asyncio.get_running_loop().time() + self._wait_s)):
                request = pack("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
                await connection.send_packed_command(request, check_health=False)
                return await connection.read_response()
        except (OSError, RedisError) as error:
            raise Lost(f"{shown(sentinel)}: {error or 'it did not answer in time'}") from error
        finally:
            await close_now(connection)


async def require_master(connection: AbstractConnection) -> None:
    """Refuse a connection to a server that has been demoted and does not know of the new master's address yet.

    Sentinels ask clients to look: https://redis.io/docs/reference/sentinel-clients/ (step 3).
    """
    await connection.send_packed_command(pack("ROLE"), check_health=False)
    role = await connection.read_response()
    if role[0] != b"master":
        raise ReadOnlyError("it is a replica by now")
