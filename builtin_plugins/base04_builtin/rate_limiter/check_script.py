"""The atomic step that checks and counts: for any number of calls, bans and buckets of all levels at once.

All numbers that go in or out are whole and below 2**53, so that Lua's doubles hold them exactly; a quotient of two such
numbers is rounded correctly, so that its ceiling is exact too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from base04_builtin.rate_limiter.meter import EPOCH_MS
from base04_builtin.rate_limiter.plan import SHADOW, WATCHED, AutoBanPlan, Bucket, Plan, PlannedLevel, read_plan
from base04_hookspecs.redis import AtomicScript, ScriptStore

_KEPT_MS: Final = 5000
"""How long a bucket is kept once it is empty: for somebody who keeps coming it is not made anew each time."""


def _check(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> list[list[Any]]:
    now = store.now_ms()
    if len(args) == 1:
        return [_call(store, keys, read_plan(args[0]), now)]
    replies, begin = [], 0
    for text in args:
        plan = read_plan(text)
        replies.append(_call(store, keys[begin : begin + plan.keys], plan, now))
        begin += plan.keys
    return replies


def _call(store: ScriptStore, keys: Sequence[str], plan: Plan, now: int) -> list[Any]:
    """Carry out one call."""
    get = store.get
    consume, _, _, bans, buckets, _, blank = plan
    reply = blank.copy()
    reply[1] = now
    at = now - EPOCH_MS
    for place, position in bans:
        penalty = get(keys[place])
        if penalty is not None and penalty[0] == "b":
            reply[0] = 0
            reply[position] = penalty[1:]
    full = False
    for _, capacity, drain, room, place, position in buckets:
        state = get(keys[place])
        if state is None:
            level = 0
        else:
            level = int(state) - at * drain
            if level <= 0:
                level = 0
            else:
                if level > capacity:
                    level = _filled(store, keys[place], capacity, at * drain, drain, consume)
                reply[position] = level
        if level > room:
            full = True
            reply[position + 1] = -((room - level) // drain)
    if full and _refuses(store, keys, plan, reply):
        reply[0] = 0
    if not consume or not reply[0]:
        return reply
    for charge, _, drain, _, place, position in _fitting(plan, reply) if full else buckets:
        level = reply[position] + charge
        reply[position] = level
        store.set(keys[place], str(at * drain + level), _KEPT_MS - (-level // drain))
    return reply


def _filled(store: ScriptStore, key: str, capacity: int, base: int, drain: int, consume: bool) -> int:
    """The clock has been set back, so that the bucket seems more than full: let it be full."""
    if consume:
        store.set(key, str(base + capacity), _KEPT_MS - (-capacity // drain))
    return capacity


def _refuses(store: ScriptStore, keys: Sequence[str], plan: Plan, reply: list[Any]) -> bool:
    """Tell whether a full bucket is one that refuses, and count the violations of those that do."""
    full = [one for one in plan.levels if not one.flags & SHADOW and not _fits(one, reply)]
    if plan.consume and plan.auto_ban.violations:
        for level in full:
            if level.flags & WATCHED and not reply[level.position]:
                reply[level.position] = _violation(store, keys[level.place], plan.auto_ban, reply[1])
    return bool(full)


def _fitting(plan: Plan, reply: list[Any]) -> list[Bucket]:
    return [bucket for level in plan.levels if _fits(level, reply) for bucket in level.buckets]


def _fits(level: PlannedLevel, reply: list[Any]) -> bool:
    return not any(reply[bucket.position + 1] for bucket in level.buckets)


def _violation(store: ScriptStore, key: str, rule: AutoBanPlan, now: int) -> str:
    count, ends = 1, now + rule.window_ms
    state = store.get(key)
    if state is not None and state[0] == "v":
        kept, _, until = state[1:].partition(":")
        if now < int(until) <= ends:
            count, ends = int(kept) + 1, int(until)
    if count < rule.violations:
        store.set(key, f"v{count}:{ends}", ends - now)
        return ""
    ban = f"{now + rule.ban_ms}:{now}:{rule.reason}"
    store.set(key, f"b{ban}", rule.ban_ms)
    return f"+{ban}"


_LUA: Final = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local at = now - @EPOCH_MS@
local values, lives = {}, {}
for i, state in ipairs(redis.call('MGET', unpack(KEYS))) do values[KEYS[i]] = state end

local function whole(number) return string.format('%.0f', number) end

local function put(key, value, life)
  values[key] = value
  lives[key] = whole(life)
end

local function violation(key, plan)
  local count, ends = 1, now + plan[3]
  local state = values[key]
  if state and string.sub(state, 1, 1) == 'v' then
    local kept, till = string.match(state, '^v(%d+):(%d+)')
    till = tonumber(till)
    if now < till and till <= ends then count, ends = tonumber(kept) + 1, till end
  end
  if count < plan[2] then
    put(key, 'v' .. whole(count) .. ':' .. whole(ends), ends - now)
    return ''
  end
  local ban = whole(now + plan[4]) .. ':' .. whole(now) .. ':' .. plan[5]
  put(key, 'b' .. ban, plan[4])
  return '+' .. ban
end

local text, plan
local cursor, replies = 0, {}
for call = 1, #ARGV do
  if ARGV[call] ~= text then
    text = ARGV[call]
    plan = cjson.decode(text)
  end
  local consume = plan[1] == 1
  local reply, fills, refusals = {1, now}, {}, {}
  local position = 6
  for _ = 1, plan[6] do
    local flags, buckets = plan[position + 1], plan[position + 2]
    position = position + 2
    cursor = cursor + 1
    local penalty = values[KEYS[cursor]]
    reply[#reply + 1] = ''
    local ban_at, penalty_key = #reply, KEYS[cursor]
    if penalty and string.sub(penalty, 1, 1) == 'b' then
      reply[1] = 0
      reply[ban_at] = string.sub(penalty, 2)
    end
    local fits, before = true, #fills
    for _ = 1, buckets do
      local charge, capacity, drain = plan[position + 1], plan[position + 2], plan[position + 3]
      position = position + 3
      cursor = cursor + 1
      local key = KEYS[cursor]
      local base, level = at * drain, 0
      local state = values[key]
      if state then
        level = tonumber(state) - base
        if level <= 0 then
          level = 0
        elseif level > capacity then
          level = capacity
          if consume then put(key, whole(base + level), math.ceil(level / drain) + @KEPT_MS@) end
        end
      end
      local excess = level + charge - capacity
      reply[#reply + 1] = level
      if excess > 0 then
        fits = false
        reply[#reply + 1] = math.ceil(excess / drain)
      else
        fills[#fills + 1] = {key, base, level + charge, drain, #reply}
        reply[#reply + 1] = 0
      end
    end
    if not fits then
      if flags % 2 == 1 then
        for i = #fills, before + 1, -1 do fills[i] = nil end
      else
        reply[1] = 0
        if flags >= 2 and reply[ban_at] == '' then refusals[#refusals + 1] = {penalty_key, ban_at} end
      end
    end
  end
  if consume then
    if reply[1] == 1 then
      for _, fill in ipairs(fills) do
        put(fill[1], whole(fill[2] + fill[3]), math.ceil(fill[3] / fill[4]) + @KEPT_MS@)
        reply[fill[5]] = fill[3]
      end
    elseif plan[2] > 0 then
      for _, refusal in ipairs(refusals) do reply[refusal[2]] = violation(refusal[1], plan) end
    end
  end
  replies[call] = reply
end
for key, life in pairs(lives) do redis.call('SET', key, values[key], 'PX', life) end
return replies
"""

_SOURCE: Final = _LUA.replace("@EPOCH_MS@", str(EPOCH_MS)).replace("@KEPT_MS@", str(_KEPT_MS))

CHECK: Final = AtomicScript("rate_limiter.check", _SOURCE, _check)
"""Check bans and buckets of each call and, where all levels allow it and the plan says so, fill all its buckets.

ARGV is a plan for each call (``plan_text``); KEYS are for each call and each of its levels the key of the penalty and
those of the buckets. Returns for each call a list: whether it may go on, the time, and for each level its ban (empty
where there is none, with a ``+`` ahead of one that began just now) and, for each bucket, its level and the
milliseconds until the call would fit.

A bucket is kept as the time at which it is empty, in units since ``EPOCH_MS``; where the server's clock was set back by
so much that it would be more than full, it is full from now on, so that nobody waits for the clock to come round. A
penalty is ``b<until>:<since>:<reason>``, ``until`` being 0 for a ban without end, or ``v<count>:<ends>``: violations
counted until the window ends.
"""
