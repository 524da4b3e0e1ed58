"""Counters that all workers share, in Redis or Valkey: one script and one round trip for all limits of a call.

Every key has one hash tag, so that a cluster keeps them together. Time is the server's: workers' clocks only say which
window a call falls in.

    {edge}:c:<key>     a counter
    {edge}:lease:<id>  what a call took: [lost, is lost, key, amount, slot, key, amount, slot, …]
    {edge}:leases      the leases by the moment at which they are lost
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from .base import Entry, Lost, Settled, StoreDown, StoreSettings, Taken

_TAG = "{edge}:"
_LEASES = _TAG + "leases"
_LEASE = _TAG + "lease:"
_COUNTER = _TAG + "c:"
# The news of a lost lease is kept for the worker that may come back to it, and a lease no longer than that.
_KEEP_SECONDS = 86_400
# So many lost leases are found by one step: more than one step can make.
_LOSE_AT_ONCE = 16
_AT_ONCE = 64

_CHANGE = """
local function change(key, by)
  if by ~= 0 and redis.call('EXISTS', key) == 1 then
    if redis.call('INCRBY', key, string.format('%.0f', by)) < 0 then
      redis.call('SET', key, '0', 'KEEPTTL')
    end
  end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# KEYS: leases, this lease, then each entry's counter and the one before. ARGV: lease's name, its milliseconds (0:
# none), lost, keep, then six numbers an entry: weight, maximum, amount, hard, expires, slot.
# Answers 1 or 0, then for each entry what its counter had come to and what the one before had.
TAKE = (
    _CHANGE
    + f"""
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, {_LOSE_AT_ONCE})) do
  local key = '{_LEASE}' .. name
  local found = redis.call('GET', key)
  if found then
    local lease = cjson.decode(found)
    for i = 3, #lease, 3 do
      if lease[i + 2] == 1 or lease[1] == 'release' then change(lease[i], -lease[i + 1]) end
    end
    lease[2] = 1
    redis.call('SET', key, cjson.encode(lease), 'EX', ARGV[4])
  end
  redis.call('ZREM', KEYS[1], name)
end
local counters = redis.call('MGET', unpack(KEYS, 3))
local answer, ok = {{1}}, true
local n = (#KEYS - 2) / 2
for i = 1, n do
  local at = 4 + (i - 1) * 6
  local used = tonumber(counters[2 * i - 1] or 0)
  local weight = tonumber(ARGV[at + 1])
  local before = 0
  if weight > 0 then
    before = tonumber(counters[2 * i] or 0)
    used = used + math.ceil(before * weight / 1000000)
  end
  answer[2 * i] = used
  answer[2 * i + 1] = before
  if ARGV[at + 4] == '1' and used + tonumber(ARGV[at + 3]) > tonumber(ARGV[at + 2]) then ok = false end
end
if not ok then
  answer[1] = 0
  return answer
end
local lease = {{ARGV[3], 0}}
for i = 1, n do
  local at, key = 4 + (i - 1) * 6, KEYS[2 * i + 1]
  redis.call('INCRBY', key, ARGV[at + 3])
  redis.call('EXPIREAT', key, ARGV[at + 5])
  lease[3 * i] = key
  lease[3 * i + 1] = tonumber(ARGV[at + 3])
  lease[3 * i + 2] = tonumber(ARGV[at + 6])
end
if ARGV[2] ~= '0' then
  redis.call('SET', KEYS[2], cjson.encode(lease), 'EX', ARGV[4])
  redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
end
return answer
"""
)

# KEYS: leases, then leases. ARGV: for each its name, the number of its entries, and what each used (-1: as taken).
SETTLE = (
    _CHANGE
    + """
local at = 1
for k = 2, #KEYS do
  local name, count = ARGV[at], tonumber(ARGV[at + 1])
  local found = redis.call('GET', KEYS[k])
  if found then
    local lease = cjson.decode(found)
    for i = 1, count do
      local key, amount, slot = lease[3 * i], lease[3 * i + 1], lease[3 * i + 2]
      local used = tonumber(ARGV[at + 1 + i])
      if slot == 1 then used = 0 elseif used < 0 then used = amount end
      local held = amount
      if lease[2] == 1 and (slot == 1 or lease[1] == 'release') then held = 0 end
      change(key, used - held)
    end
    redis.call('DEL', KEYS[k])
    redis.call('ZREM', KEYS[1], name)
  end
  at = at + 2 + count
end
"""
)

RENEW = (
    _CHANGE
    + """
for i = 2, #ARGV do
  redis.call('ZADD', KEYS[1], 'XX', now + tonumber(ARGV[1]), ARGV[i])
end
"""
)


class RedisStore:
    def __init__(self, client: Any) -> None:
        self._client = client
        # Each step under way holds a connection; more at once would not be faster.
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._take = client.register_script(TAKE)
        self._settle = client.register_script(SETTLE)
        self._renew = client.register_script(RENEW)

    async def take(self, lease: str, entries: Sequence[Entry], seconds: int, lost: Lost) -> Taken:
        keys = [_LEASES, _LEASE + lease]
        arguments: list[str | int] = [lease, seconds * 1000, lost, _KEEP_SECONDS]
        for e in entries:
            keys += (_COUNTER + e.key, _COUNTER + e.before)
            arguments += (e.weight, e.maximum, e.amount, 1 if e.hard else 0, e.expires, 1 if e.slot else 0)
        async with self._turns:
            ok, *counted = await _up(self._take(keys, arguments))
        return Taken(ok == 1, tuple(counted[::2]), tuple(counted[1::2]))

    async def settle(self, settled: Sequence[Settled]) -> None:
        keys, arguments = [_LEASES], list[str | int]()
        for each in settled:
            keys.append(_LEASE + each.lease)
            arguments += (each.lease, len(each.used), *each.used)
        await _up(self._settle(keys, arguments))

    async def add(self, amounts: Sequence[tuple[str, int, int]]) -> None:
        async with self._client.pipeline(transaction=True) as pipe:
            for key, amount, expires in amounts:
                pipe.incrby(_COUNTER + key, amount)
                pipe.expireat(_COUNTER + key, expires)
            await _up(pipe.execute())

    async def renew(self, leases: Sequence[str], seconds: int) -> None:
        await _up(self._renew([_LEASES], [seconds * 1000, *leases]))

    async def close(self) -> None:
        await self._client.aclose()


async def _up(answer: Any) -> Any:
    try:
        return await answer
    except (RedisError, OSError, TimeoutError) as error:
        # Its text may hold the address and its password.
        raise StoreDown(type(error).__name__) from None


class RedisKind:
    def build(self, settings: StoreSettings) -> RedisStore:
        """Connects when it is first asked. Nothing is sent twice: what was done is not known after an error."""
        client = Redis.from_url(
            settings.url,
            socket_timeout=settings.timeout,
            socket_connect_timeout=settings.timeout,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            max_connections=2 * _AT_ONCE,
        )
        return RedisStore(client)


PLUGIN = RedisKind()
