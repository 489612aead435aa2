"""The atomic steps that ban, bring bans back, lift them, and forget counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from base04_hookspecs.redis import AtomicScript, ScriptStore


def _ban(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> list[Any]:
    now, life = store.now_ms(), int(args[0])
    until = now + life if life > 0 else 0
    for key in keys:
        store.set(key, f"b{until}:{now}:{args[1]}", life if life > 0 else None)
    return [until, now]


BAN: Final = AtomicScript(
    "rate_limiter.ban",
    """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local life = tonumber(ARGV[1])
local till = life > 0 and now + life or 0
local ban = string.format('b%.0f:%.0f:', till, now) .. ARGV[2]
for _, key in ipairs(KEYS) do
  if life > 0 then
    redis.call('SET', key, ban, 'PX', ARGV[1])
  else
    redis.call('SET', key, ban)
  end
end
return {till, now}
""",
    _ban,
)
"""Ban all KEYS for ARGV[1] milliseconds, 0 for no end, with the reason ARGV[2]; returns until when, and the time."""


def _restore(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> int:
    now, written = store.now_ms(), 0
    for number, key in enumerate(keys):
        until, since, reason = int(args[3 * number]), args[3 * number + 1], args[3 * number + 2]
        if 0 < until <= now:
            continue
        kept = store.get(key)
        if kept is None or kept[0] != "b" or int(kept.split(":", 2)[1]) < int(since):
            store.set(key, f"b{until}:{since}:{reason}", until - now if until else None)
            written += 1
    return written


RESTORE: Final = AtomicScript(
    "rate_limiter.restore",
    """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local written = 0
for number, key in ipairs(KEYS) do
  local till, since, reason = tonumber(ARGV[3 * number - 2]), ARGV[3 * number - 1], ARGV[3 * number]
  if till == 0 or till > now then
    local kept = redis.call('GET', key)
    local kept_since = kept and string.match(kept, '^b%d+:(%d+):')
    if not kept_since or tonumber(kept_since) < tonumber(since) then
      local ban = string.format('b%.0f:', till) .. since .. ':' .. reason
      if till == 0 then
        redis.call('SET', key, ban)
      else
        redis.call('SET', key, ban, 'PX', string.format('%.0f', till - now))
      end
      written = written + 1
    end
  end
end
return written
""",
    _restore,
)
"""Ban each of KEYS again where it has no ban that is as new; ARGV holds until when, since when, and why for each."""


def _unban(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> list[Any]:
    now, lifted = store.now_ms(), 0
    for key in keys:
        kept = store.get(key)
        if kept is not None and kept[0] == "b" and (args[0] == "0" or int(kept.split(":", 2)[1]) <= int(args[0])):
            lifted += store.delete(key)
    return [lifted, now]


UNBAN: Final = AtomicScript(
    "rate_limiter.unban",
    """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local lifted = 0
for _, key in ipairs(KEYS) do
  local kept = redis.call('GET', key)
  local since = kept and string.match(kept, '^b%d+:(%d+):')
  if since and (ARGV[1] == '0' or tonumber(since) <= tonumber(ARGV[1])) then
    lifted = lifted + redis.call('DEL', key)
  end
end
return {lifted, now}
""",
    _unban,
)
"""Lift the bans at KEYS that began until ARGV[1], 0 for all; returns how many there were, and the time."""
