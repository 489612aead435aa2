"""Atomic scripts that every provider of the role ``redis`` runs alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from base04_hookspecs.redis import AtomicScript, ScriptStore


def _tour(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> list[Any]:
    value, life = args
    missing = store.get(keys[0])
    reply: list[Any] = ["missing" if missing is None else missing, store.pttl(keys[0]), store.pexpire(keys[0], 1000)]
    store.set(keys[0], value, int(life))
    reply += [store.get(keys[0]), store.pttl(keys[0])]
    reply += [store.pexpire(keys[0], 50_000), store.pttl(keys[0])]
    store.set(keys[0], value)
    reply += [store.pttl(keys[0]), store.delete(keys[0]), store.delete(keys[0])]
    store.set(keys[1], value)
    reply += [store.pexpire(keys[1], 0), store.pttl(keys[1])]
    reply.append(int(store.now_ms() > 1_600_000_000_000))
    return reply


TOUR: Final = AtomicScript(
    "conformance.tour",
    """
local value, life = ARGV[1], ARGV[2]
local reply = {redis.call('GET', KEYS[1]) or 'missing'}
local function note(answer) reply[#reply + 1] = answer end
note(redis.call('PTTL', KEYS[1]))
note(redis.call('PEXPIRE', KEYS[1], 1000))
redis.call('SET', KEYS[1], value, 'PX', life)
note(redis.call('GET', KEYS[1]))
note(redis.call('PTTL', KEYS[1]))
note(redis.call('PEXPIRE', KEYS[1], 50000))
note(redis.call('PTTL', KEYS[1]))
redis.call('SET', KEYS[1], value)
note(redis.call('PTTL', KEYS[1]))
note(redis.call('DEL', KEYS[1]))
note(redis.call('DEL', KEYS[1]))
redis.call('SET', KEYS[2], value)
note(redis.call('PEXPIRE', KEYS[2], 0))
note(redis.call('PTTL', KEYS[2]))
note(tonumber(redis.call('TIME')[1]) * 1000 > 1600000000000 and 1 or 0)
return reply
""",
    _tour,
)
"""Goes through all that a ``ScriptStore`` can do; takes two missing keys, a value, and a life in milliseconds."""

TOUR_ARGUMENTS: Final = ("as text", 60_000)
TOUR_REPLY: Final = ["missing", -2, 0, "as text", 60_000, 1, 50_000, -1, 1, 0, 1, -2, 1]
"""What both bodies answer, once the lives are ``rounded``."""


def rounded(reply: Any) -> list[Any]:
    """Return the reply of ``TOUR`` with lives rounded up to ten seconds: before Redis 7.2 they run on in a script."""
    return [-(-item // 10_000) * 10_000 if isinstance(item, int) and item > 10 else item for item in reply]


def _add(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> int:
    total = int(store.get(keys[0]) or "0") + int(args[0])
    store.set(keys[0], str(total))
    return total


ADD: Final = AtomicScript(
    "conformance.add",
    """
local total = tonumber(redis.call('GET', KEYS[1]) or '0') + tonumber(ARGV[1])
redis.call('SET', KEYS[1], string.format('%.0f', total))
return total
""",
    _add,
)


def _echo(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> list[Any]:
    return [*keys, *args, len(args)]


ECHO: Final = AtomicScript(
    "conformance.echo",
    """
local reply = {}
for _, key in ipairs(KEYS) do reply[#reply + 1] = key end
for _, arg in ipairs(ARGV) do reply[#reply + 1] = arg end
reply[#reply + 1] = #ARGV
return reply
""",
    _echo,
)


def _scribble(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> None:
    store.set(keys[0], args[0])


SCRIBBLE: Final = AtomicScript("conformance.scribble", "redis.call('SET', KEYS[1], ARGV[1]) return false", _scribble)
"""Writes a text that need not be JSON."""


def _fail(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> None:
    raise ValueError("on purpose")


FAIL: Final = AtomicScript("conformance.fail", "return redis.error_reply('on purpose')", _fail)


def _nothing(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> None:
    return None


NOTHING: Final = AtomicScript("conformance.nothing", "return false", _nothing)
