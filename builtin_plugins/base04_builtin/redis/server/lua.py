"""Steps that the server takes as one, and running Lua by its digest."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import Any, Final

from redis.exceptions import NoScriptError

from base04_builtin.redis.server.calls import Calls
from base04_builtin.redis.server.packing import pack

INCR: Final = """
local raw = redis.call('GET', KEYS[1])
local cut = raw and string.find(raw, '\\n', 1, true)
if cut then redis.call('SET', KEYS[1], string.sub(raw, 1, cut - 1), 'KEEPTTL') end
local done = redis.pcall('INCRBY', KEYS[1], ARGV[1])
local sum = redis.call('GET', KEYS[1])
if cut then redis.call('APPEND', KEYS[1], string.sub(raw, cut)) end
if type(done) == 'table' and done.err then return done end
if not raw and ARGV[2] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return sum
"""
"""Add ARGV[1] to the integer at KEYS[1], keeping its tags; a new one lives for ARGV[2] milliseconds, 0 for no end.

Returns the sum as text, since Lua's numbers hold 53 bits.
"""

EXPIRE: Final = """
if redis.call('PEXPIRE', KEYS[1], ARGV[1]) == 0 then return false end
if redis.pcall('GETRANGE', KEYS[1], -1, -1) ~= '\\n' then return '' end
local raw = redis.call('GET', KEYS[1])
return string.sub(raw, string.find(raw, '\\n', 1, true), -1)
"""
"""Let KEYS[1] live for ARGV[1] milliseconds; returns its tags as the value carries them, nil where there is no key."""

DELETE_TAGGED: Final = """
local raw = redis.pcall('GET', KEYS[1])
if type(raw) ~= 'string' or not string.find(raw, ARGV[1], 1, true) then return 0 end
return redis.call('DEL', KEYS[1])
"""
"""Delete KEYS[1] where its value carries the tag ARGV[1]; returns how many that was."""

INDEX: Final = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local life = tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
redis.call('ZADD', KEYS[1], life > 0 and string.format('%.0f', now + life) or '+inf', ARGV[1])
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
if last == 'inf' then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIREAT', KEYS[1], last) end
return 1
"""
"""Note in the index KEYS[1] the key ARGV[1], for ARGV[2] milliseconds, 0 for no end; drop those that are over."""


@functools.lru_cache(maxsize=1024)
def _digest(source: str) -> str:
    return hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


async def run_lua(
    calls: Calls, source: str, keys: Sequence[bytes], args: Sequence[str | bytes | int], *, once: bool
) -> Any:
    """Run a Lua body on the server of its keys and return the reply.

    It is asked for by its digest; a server that does not know that has not run anything, and gets the whole body.
    """
    place = keys[0] if keys else b""
    try:
        return await calls.run(place, pack("EVALSHA", _digest(source), len(keys), *keys, *args), once=once)
    except NoScriptError:
        return await calls.run(place, pack("EVAL", source, len(keys), *keys, *args), once=once)
