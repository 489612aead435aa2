"""The atomic steps of the rate limiter, each as Lua and as Python.

All numbers that go in or out are whole and below 2**53, so that Lua's doubles hold them exactly; a quotient of two such
numbers is rounded correctly, so that its ceiling is exact too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from base04_hookspecs.redis import AtomicScript, ScriptStore


def _check(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> list[Any]:
    now = store.now_ms()
    consume = args[0] == "1"
    bans = int(args[1])
    allowed = 1
    reply: list[Any] = [allowed, now]
    for key in keys[:bans]:
        ban = store.get(key)
        if ban is not None:
            allowed = 0
        reply.append(ban or "")
    meters: list[tuple[str, int, int, int, int]] = []
    position = 2
    for key in keys[bans:]:
        charge, capacity, drain = int(args[position]), int(args[position + 1]), int(args[position + 2])
        position += 3
        level, since = 0, now
        state = store.get(key)
        if state is not None:
            filled, _, at = state.partition(":")
            level, since = int(filled), int(at)
            if now > since:
                level = max(0, level - (now - since) * drain)
        excess = level + charge - capacity
        if excess > 0:
            allowed = 0
        meters.append((key, level, since, charge, drain))
        reply += (level, -(-excess // drain) if excess > 0 else 0)
    reply[0] = allowed
    if consume:
        position = 2 + bans
        for key, level, since, charge, drain in meters:
            if allowed:
                level += charge
                reply[position] = level
            if allowed or since > now:
                store.set(key, f"{level}:{now}", -(-level // drain) + 1)
            position += 2
    return reply


CHECK: Final = AtomicScript(
    "rate_limiter.check",
    """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local consume, bans = ARGV[1] == '1', tonumber(ARGV[2])
local allowed = 1
local reply = {allowed, now}
for i = 1, bans do
  local ban = redis.call('GET', KEYS[i])
  if ban then allowed = 0 end
  reply[#reply + 1] = ban or ''
end
local meters = {}
local position = 3
for i = bans + 1, #KEYS do
  local charge, capacity = tonumber(ARGV[position]), tonumber(ARGV[position + 1])
  local drain = tonumber(ARGV[position + 2])
  position = position + 3
  local level, since = 0, now
  local state = redis.call('GET', KEYS[i])
  if state then
    local colon = string.find(state, ':', 1, true)
    level, since = tonumber(string.sub(state, 1, colon - 1)), tonumber(string.sub(state, colon + 1))
    if now > since then level = math.max(0, level - (now - since) * drain) end
  end
  local excess = level + charge - capacity
  if excess > 0 then allowed = 0 end
  meters[#meters + 1] = {KEYS[i], level, since, charge, drain}
  reply[#reply + 1] = level
  reply[#reply + 1] = excess > 0 and math.ceil(excess / drain) or 0
end
reply[1] = allowed
if consume then
  position = 3 + bans
  for _, meter in ipairs(meters) do
    local level = meter[2]
    if allowed == 1 then
      level = level + meter[4]
      reply[position] = level
    end
    if allowed == 1 or meter[3] > now then
      redis.call('SET', meter[1], string.format('%.0f:%.0f', level, now),
                 'PX', string.format('%.0f', math.ceil(level / meter[5]) + 1))
    end
    position = position + 2
  end
end
return reply
""",
    _check,
)
"""Check bans and buckets, then, where all allow it and ARGV[1] is 1, fill all buckets.

KEYS are the bans, then the buckets; ARGV is ``consume``, the number of bans, and charge, capacity and drain for each
bucket. Returns ``allowed``, the time, each ban (empty where there is none), and for each bucket its level and the
milliseconds until the call would fit. A bucket is kept as ``level:since``; where the server's clock has been set back,
``since`` follows it, so that nobody waits for the clock to come round.
"""


def _ban(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> int:
    life = int(args[0])
    until = store.now_ms() + life if life > 0 else 0
    for key in keys:
        store.set(key, f"{until}:{args[1]}", life if life > 0 else None)
    return until


BAN: Final = AtomicScript(
    "rate_limiter.ban",
    """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local life = tonumber(ARGV[1])
local till = life > 0 and now + life or 0
local ban = string.format('%.0f:', till) .. ARGV[2]
for _, key in ipairs(KEYS) do
  if life > 0 then
    redis.call('SET', key, ban, 'PX', ARGV[1])
  else
    redis.call('SET', key, ban)
  end
end
return till
""",
    _ban,
)
"""Ban all KEYS for ARGV[1] milliseconds, 0 for no end, with the reason ARGV[2]. Kept as ``until:reason``."""


def _unban(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> int:
    return sum(store.delete(key) for key in keys)


UNBAN: Final = AtomicScript(
    "rate_limiter.unban",
    """
local lifted = 0
for _, key in ipairs(KEYS) do lifted = lifted + redis.call('DEL', key) end
return lifted
""",
    _unban,
)
"""Lift the bans at all KEYS and return how many there were."""
