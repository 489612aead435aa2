"""The atomic step by which a process renews its lease and learns who else has one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from base04_hookspecs.redis import AtomicScript, ScriptStore

_LIFE_MS: Final = 86_400_000


def _renew(store: ScriptStore, keys: Sequence[str], args: Sequence[str]) -> list[Any]:
    now, life = store.now_ms(), int(args[3])
    epoch, *leases = (store.get(keys[0]) or args[0]).split("|")
    kept, others = [], []
    for lease in leases:
        node, until, version = lease.split(":")
        if node != args[1] and int(until) > now:
            kept.append(lease)
            others.append(f"{node}:{version}")
    if life > 0:
        kept.append(f"{args[1]}:{now + life}:{args[2]}")
    store.set(keys[0], "|".join([epoch, *kept]), _LIFE_MS)
    return [epoch, *others]


RENEW_LEASE: Final = AtomicScript(
    "websocket.lease",
    """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local life = tonumber(ARGV[4])
local leases = redis.call('GET', KEYS[1]) or ARGV[1]
local epoch = string.match(leases, '^[^|]*')
local kept, reply = {epoch}, {epoch}
for node, till, version in string.gmatch(leases, '|([^:|]+):(%d+):(%d+)') do
  if node ~= ARGV[2] and tonumber(till) > now then
    kept[#kept + 1] = node .. ':' .. till .. ':' .. version
    reply[#reply + 1] = node .. ':' .. version
  end
end
if life > 0 then
  kept[#kept + 1] = ARGV[2] .. string.format(':%.0f:', now + life) .. ARGV[3]
end
redis.call('SET', KEYS[1], table.concat(kept, '|'), 'PX', 86400000)
return reply
""",
    _renew,
)
"""Hold the lease of node ARGV[2], whose presence has version ARGV[3], for ARGV[4] milliseconds, or give it up with 0.

Returns an epoch, which is another one after the leases were lost, and ``node:version`` of every other lease. ARGV[1] is
the epoch where there are no leases.
"""
