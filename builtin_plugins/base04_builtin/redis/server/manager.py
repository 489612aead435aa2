"""The provider ``server``: real Redis servers, alone, watched by sentinels, or a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

from redis.crc import key_slot
from redis.exceptions import RedisError

from base04_builtin.redis.arguments import amount_to_add, milliseconds, name_bytes, script_argument, tag_names
from base04_builtin.redis.json_text import decode, encode_bytes
from base04_builtin.redis.server import lua
from base04_builtin.redis.server.bus import Bus
from base04_builtin.redis.server.calls import Calls
from base04_builtin.redis.server.connector import tls_context
from base04_builtin.redis.server.failures import NotSent, unavailable
from base04_builtin.redis.server.inspection import inspect
from base04_builtin.redis.server.node import Node
from base04_builtin.redis.server.opening import open_topology, topology_of
from base04_builtin.redis.server.packing import pack
from base04_builtin.redis.server.settings import ServerRedisSettings, TlsSettings
from base04_builtin.redis.server.tags import INDEX_PREFIX, Tags, code_of, codes_in, suffix
from base04_builtin.redis.server.topology import Topology
from base04_hookspecs.errors import (
    InvalidInput,
    ManagerError,
    ManagerUnavailable,
    NotFound,
)
from base04_hookspecs.health import HealthReport, health_report
from base04_hookspecs.redis import AtomicScript, GapCallback, MessageCallback, RedisManager

_SCANNED_AT_ONCE: Final = 1000
_PATTERN: Final = str.maketrans({char: f"\\{char}" for char in "\\*?[]"})
_NO_INTEGER: Final = ("not an integer", "would overflow", "WRONGTYPE")


class ServerRedisManager(RedisManager):
    """Values, counters, atomic scripts and messages on Redis servers, shared by all processes that use them.

    No command takes longer than the setting ``timeout``. Reads, and writes that do no harm when they are done twice,
    are tried again after a lost reply: ``get``, ``exists``, ``ttl``, ``expire``, ``delete`` and its kin, and ``set``
    without ``only_if_absent``. (So a ``delete`` may say False for a key that its first try deleted.) Whatever counts
    is sent once: ``incr``, ``publish``, scripts and ``only_if_absent`` raise ``OutcomeUnknown`` when the reply was
    lost. A command that never left, or that the server has put off, is tried again whatever it is.
    """

    def __init__(self, settings: ServerRedisSettings) -> None:
        self._settings = settings
        self._place = settings.place()
        self._topology: Topology | None = None
        self._running: tuple[Calls, Tags, Bus] | None = None

    async def start(self) -> None:
        """Connect.

        Raises:
            ConfigurationError: the servers refuse us, or we them, and would the next time too.
            ManagerUnavailable: no server answers.
        """
        settings = self._settings
        tls = await asyncio.to_thread(tls_context, settings.tls or TlsSettings()) if self._place.tls else None
        topology = self._topology = topology_of(self._place, settings, tls)
        await open_topology(topology, settings.timeout)
        calls = Calls(topology, settings.timeout, settings.retries)
        self._running = calls, Tags(calls), Bus(topology, settings)

    async def stop(self) -> None:
        running, self._running = self._running, None
        topology, self._topology = self._topology, None
        try:
            if running is not None:
                await running[2].close()
        finally:
            if topology is not None:
                await topology.close()
                await asyncio.sleep(0)  # in which the loop lets the sockets go

    async def ping(self) -> bool:
        return self._running is not None and await self._calls.ping()

    async def get(self, key: str) -> Any:
        name = name_bytes(key)
        raw = await self._calls.run(name, pack(b"GET", name))
        return None if raw is None else decode(raw, key)

    async def set(
        self,
        key: str,
        value: Any,
        ttl: float | None = None,
        *,
        only_if_absent: bool = False,
        tags: Iterable[str] = (),
    ) -> bool:
        """Store a value, as the contract says.

        Tags take a further round trip to the server of each, before the value is set and after.
        """
        name, raw = name_bytes(key), encode_bytes(value)
        life = None if ttl is None else milliseconds(ttl)
        if len(raw) > self._settings.max_value_bytes:
            raise InvalidInput(
                f"The value at {key!r} takes {len(raw)} bytes and at most {self._settings.max_value_bytes} are allowed "
                "('max_value_bytes'): store it elsewhere and its place here."
            )
        codes = [code_of(tag) for tag in tag_names(tags)] if tags else []
        if not codes:
            return await self._set(name, raw, life, only_if_absent)
        await self._tags.note(name, codes, life)
        done = await self._set(name, raw + suffix(codes), life, only_if_absent)
        if done:
            await self._tags.note(name, codes, life)
        return done

    async def delete(self, key: str) -> bool:
        name = name_bytes(key)
        return bool(await self._calls.run(name, pack(b"DEL", name)))

    async def exists(self, key: str) -> bool:
        name = name_bytes(key)
        return bool(await self._calls.run(name, pack(b"EXISTS", name)))

    async def expire(self, key: str, ttl: float) -> bool:
        name, life = name_bytes(key), milliseconds(ttl)
        tail = await lua.run_lua(self._calls, lua.EXPIRE, [name], [life], once=False)
        if tail:
            await self._tags.note(name, codes_in(tail), life)
        return tail is not None

    async def ttl(self, key: str) -> float | None:
        name = name_bytes(key)
        left = await self._calls.run(name, pack(b"PTTL", name))
        if left == -2:
            raise NotFound(f"There is no key {key!r}.")
        return None if left == -1 else float(left) / 1000

    async def incr(self, key: str, amount: int = 1, *, ttl: float | None = None) -> int:
        name, life = name_bytes(key), 0 if ttl is None else milliseconds(ttl)
        amount_to_add(amount)
        try:
            if not life:
                try:
                    return int(await self._calls.run(name, pack(b"INCRBY", name, amount), once=True))
                except ManagerError as error:
                    if "not an integer" not in str(error.__cause__):
                        raise
            # It makes a life, or there are tags behind the integer: that takes more than one command.
            return int(await lua.run_lua(self._calls, lua.INCR, [name], [amount, life], once=True))
        except ManagerError as error:
            if any(text in str(error.__cause__) for text in _NO_INTEGER):
                raise InvalidInput(
                    f"The value at {key!r} is not a 64-bit integer, or the sum would not be; it stays as it is."
                ) from error
            raise

    async def delete_by_prefix(self, prefix: str) -> int:
        """Delete keys by their beginning, looking at every key of every server: not for every request."""
        if not prefix:
            raise InvalidInput("An empty prefix would delete every key: give the beginning of those to delete.")
        name, pattern = name_bytes(prefix), name_bytes(prefix.translate(_PATTERN)) + b"*"
        deleted = 0
        for node in self._masters():
            deleted += await self._delete_on(node, name, pattern)
        return deleted

    async def delete_by_tag(self, tag: str) -> int:
        return await self._tags.delete(tag)

    async def run_script(self, script: AtomicScript, keys: Sequence[str], args: Sequence[str | int | float]) -> Any:
        names = [name_bytes(key) for key in keys]
        texts = [script_argument(arg) for arg in args]
        if len(names) > 1 and self._place.kind == "cluster" and len({key_slot(name) for name in names}) > 1:
            raise InvalidInput(
                f"The keys of the script {script.name!r} are in several slots of the cluster: "
                "build them with key_name(..., slot=...)."
            )
        try:
            return _text(await lua.run_lua(self._calls, script.lua, names, texts, once=True))
        except ManagerUnavailable:
            raise
        except ManagerError as error:
            if isinstance(error.__cause__, RedisError):
                self._calls.errors += 1
                raise ManagerError(f"The script {script.name!r} failed: {error.__cause__}") from error.__cause__
            raise

    async def publish(self, channel: str, message: Any) -> int:
        name, raw = name_bytes(channel, "channel"), encode_bytes(message)
        command = b"SPUBLISH" if self._place.kind == "cluster" else b"PUBLISH"
        return int(await self._calls.run(name, pack(command, name, raw), once=True))

    async def subscribe(self, channel: str, callback: MessageCallback, *, on_gap: GapCallback | None = None) -> bool:
        if not callable(callback):
            raise InvalidInput(f"The callback {callback!r} cannot be called: give a function of channel and message.")
        await self._bus.subscribe(channel, callback, on_gap)
        return True

    async def unsubscribe(self, channel: str, callback: MessageCallback) -> bool:
        return self._bus.unsubscribe(channel, callback)

    async def health_check(self) -> HealthReport:
        """Ask every server how it is."""
        if self._topology is None or self._running is None:
            return health_report("unhealthy", "not running")
        return await inspect(self._topology, self._settings, self._calls, self._bus)

    @property
    def _calls(self) -> Calls:
        return self._required()[0]

    @property
    def _tags(self) -> Tags:
        return self._required()[1]

    @property
    def _bus(self) -> Bus:
        return self._required()[2]

    def _required(self) -> tuple[Calls, Tags, Bus]:
        if self._running is None:
            raise ManagerUnavailable(
                "The connection to Redis is not open: the manager has not started, or has stopped."
            )
        return self._running

    def _masters(self) -> list[Node]:
        self._required()
        try:
            return self._topology.masters() if self._topology is not None else []
        except NotSent as error:
            raise unavailable(None, error) from error

    async def _set(self, name: bytes, raw: bytes, life: int | None, only_if_absent: bool) -> bool:
        if only_if_absent:
            parts = (b"SET", name, raw, b"NX") if life is None else (b"SET", name, raw, b"NX", b"PX", life)
            return await self._calls.run(name, pack(*parts), once=True) is not None
        request = pack(b"SET", name, raw) if life is None else pack(b"SET", name, raw, b"PX", life)
        await self._calls.run(name, request)
        return True

    async def _delete_on(self, node: Node, prefix: bytes, pattern: bytes) -> int:
        deleted: int = 0
        cursor = b"0"
        while True:
            request = pack(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", _SCANNED_AT_ONCE)
            cursor, found = await self._calls.on_node(node, request)
            keys = [key for key in found if key.startswith(prefix) and not key.startswith(INDEX_PREFIX)]
            deleted += sum(await self._calls.run_many(keys, [pack(b"UNLINK", key) for key in keys]))
            if cursor == b"0":
                return deleted


def _text(reply: Any) -> Any:
    """Return a script's reply with strings for bytes."""
    if isinstance(reply, bytes):
        return reply.decode()
    return [_text(item) for item in reply] if isinstance(reply, list) else reply
