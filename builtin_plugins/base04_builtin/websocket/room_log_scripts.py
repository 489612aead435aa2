"""The atomic steps on the log of a room.

The first key has ``epoch:offset:first:total``: the newest event, the oldest that may be kept, and how many bytes all
events of the epoch had. Beside it, under a further ``:offset``, each event has ``total:text``, the total being that
with it, so that what is kept can be measured at both ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from base04_hookspecs.redis import AtomicScript, ScriptStore


def _meta(store: ScriptStore, key: str, epoch: str) -> tuple[str, int, int, int]:
    kept = store.get(key)
    if kept is None:
        return epoch, 0, 1, 0
    name, offset, first, total = kept.split(":")
    return name, int(offset), int(first), int(total)


def _append(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> list[Any]:
    key, text, most, most_bytes, age = keys[0], args[1], int(args[2]), int(args[3]), int(args[4])
    epoch, offset, first, total = _meta(store, key, args[0])
    offset += 1
    total += len(text.encode())
    store.set(f"{key}:{offset}", f"{total}:{text}", age)
    while first < offset:
        kept = store.get(f"{key}:{first}")
        if kept is not None:
            until, _, old = kept.partition(":")
            if offset - first < most and total - int(until) + len(old.encode()) <= most_bytes:
                break
            store.delete(f"{key}:{first}")
        first += 1
    store.set(key, f"{epoch}:{offset}:{first}:{total}", int(args[5]))
    return [epoch, offset]


_META = """
local epoch, offset, first, total = ARGV[1], 0, 1, 0
local meta = redis.call('GET', KEYS[1])
if meta then
  local e, o, f, t = string.match(meta, '^([^:]+):(%d+):(%d+):(%d+)$')
  epoch, offset, first, total = e, tonumber(o), tonumber(f), tonumber(t)
end
local function event(number)
  return KEYS[1] .. ':' .. string.format('%.0f', number)
end
"""

APPEND: Final = AtomicScript(
    "websocket.append",
    _META
    + """
local most, most_bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
offset = offset + 1
total = total + #ARGV[2]
redis.call('SET', event(offset), string.format('%.0f:', total) .. ARGV[2], 'PX', ARGV[5])
while first < offset do
  local until_here = string.match(redis.call('GETRANGE', event(first), 0, 20), '^(%d+):')
  if until_here then
    local size = redis.call('STRLEN', event(first)) - #until_here - 1
    if offset - first < most and total - tonumber(until_here) + size <= most_bytes then
      break
    end
    redis.call('DEL', event(first))
  end
  first = first + 1
end
redis.call('SET', KEYS[1], epoch .. string.format(':%.0f:%.0f:%.0f', offset, first, total), 'PX', ARGV[6])
return {epoch, offset}
""",
    _append,
)
"""Write the text ARGV[2] and return its epoch and offset.

ARGV[1] is the epoch of a log that begins; at most ARGV[3] events and ARGV[4] bytes are kept, each for ARGV[5]
milliseconds, and the log itself for ARGV[6].
"""


def _read(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> list[Any]:
    key, since_epoch, life = keys[0], args[1], int(args[3])
    epoch, offset, first, total = _meta(store, key, args[0])
    store.set(key, f"{epoch}:{offset}:{first}:{total}", life)
    if since_epoch:
        first = max(first, int(args[2]) + 1) if since_epoch == epoch else offset + 1
    texts = []
    for number in range(offset, first - 1, -1):
        kept = store.get(f"{key}:{number}")
        if kept is None:
            break
        texts.append(kept.partition(":")[2])
    return [epoch, offset, *texts]


READ: Final = AtomicScript(
    "websocket.read",
    _META
    + """
redis.call('SET', KEYS[1], epoch .. string.format(':%.0f:%.0f:%.0f', offset, first, total), 'PX', ARGV[4])
if ARGV[2] == epoch then
  first = math.max(first, tonumber(ARGV[3]) + 1)
elseif ARGV[2] ~= '' then
  first = offset + 1
end
local reply = {epoch, offset}
for number = offset, first, -1 do
  local kept = redis.call('GET', event(number))
  if not kept then
    break
  end
  reply[#reply + 1] = string.match(kept, '^%d+:(.*)$')
end
return reply
""",
    _read,
)
"""Return epoch and offset, then the newest texts, newest first, back to a missing one.

Texts after offset ARGV[3] of epoch ARGV[2] alone, none where the epoch is another one, or all where ARGV[2] is empty.
A log that is not there begins, with epoch ARGV[1]; the log lives on for ARGV[4] milliseconds.
"""


def _renew(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> int:
    store.set(keys[0], f"{args[0]}:0:1:0", int(args[1]))
    return 1


RENEW: Final = AtomicScript(
    "websocket.renew",
    "redis.call('SET', KEYS[1], ARGV[1] .. ':0:1:0', 'PX', ARGV[2])\nreturn 1",
    _renew,
)
"""Begin the epoch ARGV[1]; what was kept is never read again, because events of an epoch are written from 1 on."""
