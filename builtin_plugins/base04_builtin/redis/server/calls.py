"""Sending commands where they belong, and deciding what may be tried again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any, Final

from redis.exceptions import AskError, MovedError, NoScriptError, RedisError

from base04_builtin.redis.server.failures import (
    Lost,
    NotSent,
    PoolExhausted,
    answered,
    is_passing,
    is_reply,
    refusal,
    told,
    unavailable,
)
from base04_builtin.redis.server.node import Node
from base04_builtin.redis.server.packing import pack
from base04_builtin.redis.server.topology import Topology
from base04_hookspecs.errors import ConfigurationError, ManagerUnavailable, OutcomeUnknown

_REDIRECTIONS: Final = 8
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0
_AT_ONCE: Final = 200
_PING: Final = pack("PING")


class Calls:
    """Runs commands, each within ``timeout_s`` in all.

    ========================================  ===================  =======================
    what happened                             an idempotent one    one that counts (once)
    ========================================  ===================  =======================
    there was no connection                   tried again          tried again
    the server said: not just now, elsewhere  tried again          tried again
    the server said no                        an error             an error
    the reply was lost                        tried again          ``OutcomeUnknown``
    ========================================  ===================  =======================
    """

    def __init__(self, topology: Topology, timeout_s: float, retries: int) -> None:
        self.errors = 0
        """How many calls have failed."""
        self._topology = topology
        self._timeout_s = timeout_s
        self._retries = retries

    async def run(self, key: bytes, request: bytes, *, once: bool = False) -> Any:
        """Send a packed command to the server of its key and return the reply.

        Raises:
            ManagerUnavailable: no server could be reached, or has room, within the time and the tries.
            OutcomeUnknown: the reply was lost, and the command counts.
            NoScriptError: the server does not have the script.
            ManagerError: the server said no; the answer is its ``__cause__``.
        """
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        node = None
        try:
            node = self._topology.node_for(key)
            return await node.exchange(request, deadline)
        except (NotSent, Lost, RedisError) as error:
            return await self._again(key, request, once, deadline, node, error)

    async def run_many(self, keys: Sequence[bytes], requests: Sequence[bytes]) -> list[Any]:
        """Send idempotent commands, one for each key, together to each server, and return the replies in order."""
        replies: list[Any] = [None] * len(keys)
        for begin in range(0, len(keys), _AT_ONCE):
            places: dict[Node | None, list[int]] = {}
            for number in range(begin, min(begin + _AT_ONCE, len(keys))):
                places.setdefault(self._node_or_none(keys[number]), []).append(number)
            for node, numbers in places.items():
                got = await self._together(node, [requests[number] for number in numbers])
                for number, reply in zip(numbers, got, strict=True):
                    alone = isinstance(reply, Exception)
                    replies[number] = await self.run(keys[number], requests[number]) if alone else reply
        return replies

    async def on_node(self, node: Node, request: bytes) -> Any:
        """Send a command that is for one server, such as SCAN; where that fails, no other will do."""
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        failures = 0
        while True:
            try:
                return await node.exchange(request, deadline)
            except (NotSent, Lost, RedisError) as error:
                self._give_up(error, False, failures, node, deadline)
            failures += 1
            await _pause(failures)

    async def ping(self) -> bool:
        """Tell whether all servers answer; those that do not are looked for elsewhere once."""
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        if await self._all_answer(deadline):
            return True
        await self.heal(None, deadline)
        return await self._all_answer(deadline)

    async def heal(self, node: Node | None, deadline: float) -> None:
        """Look again where the keys are; a failure to find out is left to the commands that follow."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._topology.heal(node, deadline)
        except (NotSent, Lost, RedisError, TimeoutError, ConfigurationError):
            return

    async def _all_answer(self, deadline: float) -> bool:
        try:
            return all([await node.exchange(_PING, deadline) == b"PONG" for node in self._topology.masters()])
        except (NotSent, Lost, RedisError):
            return False

    def _node_or_none(self, key: bytes) -> Node | None:
        try:
            return self._topology.node_for(key)
        except NotSent:
            return None

    async def _together(self, node: Node | None, requests: list[bytes]) -> list[Any]:
        if node is None:
            return [NotSent()] * len(requests)
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        try:
            return await node.exchange_many(requests, deadline)
        except (NotSent, Lost, RedisError) as error:
            return [error] * len(requests)

    async def _again(
        self, key: bytes, request: bytes, once: bool, deadline: float, node: Node | None, error: Exception
    ) -> Any:
        failures = redirections = 0
        while True:
            asking = False
            if isinstance(error, AskError) and redirections < _REDIRECTIONS:
                redirections += 1
                asking = not isinstance(error, MovedError)
                node = self._topology.redirected(error)
            else:
                self._give_up(error, once, failures, node, deadline)
                failures += 1
                await _pause(failures)
                await self.heal(node, deadline)
                node = None
            try:
                node = node or self._topology.node_for(key)
                return await node.exchange(request, deadline, asking=asking)
            except (NotSent, Lost, RedisError) as following:
                error = following

    def _give_up(self, error: Exception, once: bool, failures: int, node: Node | None, deadline: float) -> None:
        """Raise what the caller is to see, unless another try makes sense."""
        try:
            self._judge(error, once, failures, node, deadline)
        except (ManagerUnavailable, OutcomeUnknown):
            self.errors += 1
            raise

    def _judge(self, error: Exception, once: bool, failures: int, node: Node | None, deadline: float) -> None:
        if isinstance(error, Lost):
            if once:
                raise OutcomeUnknown(
                    f"The connection to the Redis server broke after the command had been sent ({told(error)}) "
                    "It may or may not have been done; it is not tried again."
                ) from error
        elif is_reply(error) and not is_passing(error) and isinstance(error, RedisError):
            if isinstance(error, NoScriptError):
                raise error
            raise answered(node, error) from error
        elif isinstance(error, PoolExhausted):
            raise ManagerUnavailable(f"The Redis server is too busy for us: {error}") from error
        if (
            refusal(error) is not None
            or failures >= self._retries
            or asyncio.get_running_loop().time() + _FIRST_PAUSE_S >= deadline
        ):
            raise unavailable(node, error) from error


async def _pause(failures: int) -> None:
    """Wait longer after each failure, and not as long as others who failed at the same moment."""
    longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (failures - 1))
    await asyncio.sleep(longest * random.uniform(0.5, 1.0))  # noqa: S311 - no secret depends on it
