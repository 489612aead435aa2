"""Which server of a cluster a key is on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import structlog
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, MovedError, RedisError, ResponseError

from base04_builtin.redis.server.failures import Lost, NotSent
from base04_builtin.redis.server.node import Node
from base04_builtin.redis.server.packing import pack
from base04_builtin.redis.server.place import Address
from base04_builtin.redis.server.topology import NodeFactory
from base04_hookspecs.errors import ConfigurationError

log = structlog.get_logger()

_SLOTS_REQUEST: Final = pack("CLUSTER", "SLOTS")


class ClusterTopology:
    """A map from slots to servers, learnt from any of them and corrected by what they answer.

    redis-py has a cluster client of its own. It sends ASKING and the command that it is for over different connections
    where several callers share a node, does not wait for a free connection, and does not tell a command that was lost
    from one that never left; here each of these decides whether something is done twice.
    """

    sharded = True

    def __init__(self, seeds: tuple[Address, ...], make: NodeFactory) -> None:
        self._seeds = seeds
        self._make = make
        self._nodes: dict[Address, Node] = {}
        self._slots: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._replicas: list[Address] = []
        self._learning = asyncio.Lock()
        self._learnt = 0

    async def open(self, deadline: float) -> None:
        await self._learn(None, deadline)

    def node_for(self, key: bytes) -> Node:
        slot = key_slot(key)
        node = self._slots[slot]
        if node is None:
            raise NotSent(f"no node of the cluster serves the slot {slot}.")
        return node

    def masters(self) -> list[Node]:
        serving = list(dict.fromkeys(node for node in self._slots if node is not None))
        if not serving:
            raise NotSent("no node of the cluster is known.")
        return serving

    async def heal(self, failed: Node | None, deadline: float) -> None:
        """Learn the map anew, once for all who want to at the same time."""
        learnt = self._learnt
        async with self._learning:
            if learnt == self._learnt:
                await self._learn(failed, deadline)

    def redirected(self, error: AskError) -> Node:
        host, port = error.node_addr
        node = self._node((host or self._host_of(error.slot_id), port))
        if isinstance(error, MovedError):
            self._slots[error.slot_id] = node
        return node

    async def close(self) -> None:
        nodes, self._nodes = self._nodes, {}
        self._slots = [None] * REDIS_CLUSTER_HASH_SLOTS
        for node in nodes.values():
            await node.close()

    async def _learn(self, failed: Node | None, deadline: float) -> None:
        """Ask one server after the other for the map, the one that has just failed last."""
        failure: Exception | None = None
        for address in self._to_ask(failed):
            try:
                ranges = await self._node(address).exchange(_SLOTS_REQUEST, deadline)
            except (NotSent, Lost, RedisError) as error:
                if isinstance(error, ResponseError) and "cluster support disabled" in str(error):
                    raise ConfigurationError(
                        f"The Redis server {self._node(address)} belongs to no cluster: "
                        "leave out 'cluster', or write 'redis://' in the URL."
                    ) from error
                failure = error
                continue
            if ranges:
                self._learnt += 1
                await self._take_over(ranges, address[0])
                return
            failure = NotSent(f"{self._node(address)}: no slot of its cluster is assigned.")
        raise NotSent(f"no node of the cluster tells where the keys are ({failure})") from failure

    def _to_ask(self, failed: Node | None) -> Iterable[Address]:
        serving = [node.address for node in self._nodes.values() if node is not failed]
        last = [failed.address] if failed is not None else []
        known = [*serving, *self._replicas, *self._seeds, *last]
        if last:
            known = [address for address in known if address not in last] + last
        return dict.fromkeys(known)

    async def _take_over(self, ranges: list[Any], asked_host: str) -> None:
        slots: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        replicas: list[Address] = []
        for first, last, master, *others in ranges:
            node = self._node(_address(master, asked_host))
            slots[first : last + 1] = [node] * (last + 1 - first)
            replicas += [_address(other, asked_host) for other in others]
        self._slots, self._replicas = slots, list(dict.fromkeys(replicas))
        serving = set(slots)
        for address, node in list(self._nodes.items()):
            if node not in serving:
                del self._nodes[address]
                await node.close()

    def _node(self, address: Address) -> Node:
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = self._make(address)
        return node

    def _host_of(self, slot: int) -> str:
        """Return the host that a redirection without one means: that of the server which sent it."""
        node = self._slots[slot]
        return node.address[0] if node is not None else self._seeds[0][0]


def _address(described: list[Any], asked_host: str) -> Address:
    host = (described[0] or b"").decode()
    return (host if host not in ("", "?") else asked_host), int(described[1])
