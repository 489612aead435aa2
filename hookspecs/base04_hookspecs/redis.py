"""The role ``redis``: a cache and message bus shared by all processes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol

from base04_hookspecs.errors import InvalidInput, NotSupported
from base04_hookspecs.manager import Manager
from base04_hookspecs.markers import Since, hookspec
from base04_hookspecs.provider import Provider

MessageCallback = Callable[[str, Any], Awaitable[None] | None]
"""Called with the channel and the message; may be ``async def`` or ``def``."""

GapCallback = Callable[[str], Awaitable[None] | None]
"""Called with the channel after an outage during which messages may have been missed."""

ScriptValue = int | str | None | list[Any]
"""What a script may return: integers, strings, None, and lists of these."""

_PREFIX: Final = "b04"
_FORBIDDEN: Final = frozenset("%{} \t\r\n\0")


def key_name(*parts: str, slot: str | None = None) -> str:
    """Build a key the way all managers do: ``b04:part:part``, or ``b04:{slot}:part:part``.

    Keys that one script touches must share a ``slot``: in a cluster they then live on one node (and so does all that
    shares the slot). Parts may hold anything but braces and white space, which are percent-encoded.
    """
    names = [_escaped(part) for part in parts]
    if not names or not all(names):
        raise InvalidInput(f"The key parts {parts!r} cannot be used: give at least one, and none empty.")
    if slot is not None:
        names.insert(0, "{" + _escaped(slot) + "}")
    return ":".join([_PREFIX, *names])


def _escaped(part: str) -> str:
    return "".join(f"%{ord(char):02X}" if char in _FORBIDDEN else char for char in part)


class ScriptStore(Protocol):
    """What the Python body of an ``AtomicScript`` sees: raw strings, as Lua does."""

    def get(self, key: str) -> str | None:
        """Return the raw string at the key, None where there is none."""

    def set(self, key: str, value: str, px: int | None = None) -> None:
        """Store a raw string; ``px`` is its life in milliseconds, None for no end."""

    def delete(self, key: str) -> int:
        """Delete the key and return how many there were, 0 or 1."""

    def pttl(self, key: str) -> int:
        """Return the remaining life in milliseconds, -1 for no end, -2 where there is no key."""

    def pexpire(self, key: str, ms: int) -> int:
        """Set the remaining life in milliseconds and return 1, or 0 where there is no key."""

    def now_ms(self) -> int:
        """Return the server's clock in milliseconds since the epoch; it stands still during a script."""


@dataclass(frozen=True, slots=True)
class AtomicScript:
    """A step that nothing else can come between, in two bodies that one conformance test compares.

    Args:
        name: unique, for logs and errors.
        lua: the body for a Redis server, with ``KEYS`` and ``ARGV``.
        python: the body for an in-process store: called as ``python(store, keys, args)``, never suspends, and gets
            its arguments as strings, as Lua does.
    """

    name: str
    lua: str
    python: Callable[[ScriptStore, Sequence[str], Sequence[str]], ScriptValue]


class RedisManager(Manager):
    """Cache, counters, atomic scripts, publish and subscribe.

    Values are JSON: a dict set is a dict got, and never the same object. Nothing here is the only copy of anything
    that must last: what survives a crash depends on the server's persistence.

    Capabilities: ``persistent`` (values outlive the process), ``shared`` (several processes see the same values).
    """

    role: ClassVar[str] = "redis"
    contract_version: ClassVar[str] = "1.1"
    one_for_all: ClassVar[bool] = True

    @abstractmethod
    async def ping(self) -> bool:
        """Tell whether the store answers. Never raises for an unreachable one."""

    @abstractmethod
    async def get(self, key: str) -> Any:
        """Return the value at the key, None where there is none or it has expired.

        Raises:
            ManagerUnavailable: the store cannot be reached.
        """

    @abstractmethod
    async def set(
        self,
        key: str,
        value: Any,
        ttl: float | None = None,
        *,
        only_if_absent: bool = False,
        tags: Iterable[str] = (),
    ) -> bool:
        """Store a JSON value for ``ttl`` seconds, or without end, and return True.

        With ``only_if_absent`` an existing value stays and False is returned. ``tags`` are for ``delete_by_tag``.

        Raises:
            InvalidInput: the value is not JSON (NaN and infinities included), or ``ttl`` is not positive.
            ManagerUnavailable: the store cannot be reached, or has no room.
        """

    @abstractmethod
    async def delete(self, key: str) -> bool:
        """Delete the key and tell whether there was one."""

    @abstractmethod
    async def exists(self, key: str) -> bool:
        """Tell whether there is a value at the key."""

    @abstractmethod
    async def expire(self, key: str, ttl: float) -> bool:
        """Let the key live for ``ttl`` more seconds; False where there is none."""

    @abstractmethod
    async def ttl(self, key: str) -> float | None:
        """Return the remaining life in seconds, None for a key without end.

        Raises:
            NotFound: there is no such key.
        """

    @abstractmethod
    async def incr(self, key: str, amount: int = 1, *, ttl: float | None = None) -> int:
        """Add to the integer at the key, 0 where there is none, and return the sum.

        ``ttl`` is given to a key that this call creates. Never counted twice: a reply that was lost is reported, not
        tried again.

        Raises:
            InvalidInput: the value at the key is not an integer, or the sum leaves 64 bits.
            OutcomeUnknown: the reply was lost.
        """

    @abstractmethod
    async def delete_by_prefix(self, prefix: str) -> int:
        """Delete all keys that begin with the prefix and return how many; an empty prefix is refused."""

    @abstractmethod
    async def delete_by_tag(self, tag: str) -> int:
        """Delete all keys that were set with the tag and return how many."""

    @abstractmethod
    async def run_script(self, script: AtomicScript, keys: Sequence[str], args: Sequence[str | int | float]) -> Any:
        """Run an atomic script. In a cluster all keys must share a slot: build them with ``key_name(slot=...)``.

        Raises:
            OutcomeUnknown: the reply was lost; the script may have run.
        """

    @Since("1.1")
    def local_object(self, name: str, make: Callable[[], object]) -> object | None:
        """Return the object of that name that lives as long as this store, made by the first who asks for it.

        None where other processes may share the store: what one process holds is then no count of all. Does no I/O.
        """
        return None

    @abstractmethod
    async def publish(self, channel: str, message: Any) -> int:
        """Send a JSON message to a channel and return how many subscribers got it, as far as is known.

        Delivery is at most once: who is not connected misses it.
        """

    @abstractmethod
    async def subscribe(self, channel: str, callback: MessageCallback, *, on_gap: GapCallback | None = None) -> bool:
        """Call back for each message of a channel, in the order of arrival, from when this returns True.

        A callback that raises is logged and does not stop the others. ``on_gap`` is called after an outage.
        """

    @abstractmethod
    async def unsubscribe(self, channel: str, callback: MessageCallback) -> bool:
        """Stop calling back; False where there was no such subscription."""


def held_here(redis: RedisManager, name: str, make: Callable[[], object]) -> object | None:
    """Return ``redis.local_object(name, make)``, None also where the provider does not support it."""
    try:
        return redis.local_object(name, make)
    except NotSupported:
        return None


@hookspec
def redis_providers() -> Iterable[Provider]:
    """Offer providers of the role ``redis``.

    The host calls each implementation once, when it discovers plugins. None or an empty iterable offers nothing.
    """
