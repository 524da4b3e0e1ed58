"""Counters that all workers share, in Redis or Valkey: one script and one round trip for all limits of a call.

Every key has one hash tag, so that a cluster keeps them together. Time is the server's: workers' clocks only say which
window a call falls in.

    {edge}:c:<key>     a counter
    {edge}:lease:<id>  what a call took: [lost, is lost, key, amount, slot, key, amount, slot, …]
    {edge}:leases      the leases by the moment at which they are lost
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from .base import MOST_COUNTED, LimitStoreSettings, Lost, ReserveResult, SettleResult, WindowCounter, WindowCounters
from .store_connection import StoreConnection, bulk

_TAG = "{edge}:"
_LEASES = _TAG + "leases"
_LEASE = _TAG + "lease:"
_COUNTER = _TAG + "c:"
_PROOF = _TAG + "proof"
# The news of a lost lease is kept for the worker that may come back to it, and a lease no longer than that.
_KEEP_SECONDS = 86_400
# So many lost leases are found by one step: more than one step can make.
_LOSE_AT_ONCE = 16

# A counter stays within the integers that Lua computes with exactly: an INCRBY beyond 64 bits is an error, and would
# leave a step half done.
_ADDED = f"""
local function added(key, by)
  local now = tonumber(redis.call('GET', key) or 0) + by
  if now < 0 or now > {MOST_COUNTED} then
    redis.call('SET', key, now < 0 and '0' or '{MOST_COUNTED}', 'KEEPTTL')
  else
    redis.call('INCRBY', key, string.format('%.0f', by))
  end
end
"""

_CHANGE = (
    _ADDED
    + """
local function change(key, by)
  if by ~= 0 and redis.call('EXISTS', key) == 1 then added(key, by) end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
)

# KEYS: leases, this lease, then the counters, then those of the windows before.
# ARGV: keep, how many counters, for each of them four numbers: maximum (-1: it refuses nothing), expires, slot, which
# of those before it has (0: none); then weight, lease's milliseconds (0: none), its name, it as JSON, and the amounts.
# Answers 1 or 0, then for each counter what it had come to and what the one before had.
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
    redis.call('SET', key, cjson.encode(lease), 'EX', ARGV[1])
  end
  redis.call('ZREM', KEYS[1], name)
end
local n = tonumber(ARGV[2])
local counted = redis.call('MGET', unpack(KEYS, 3))
local last = 2 + 4 * n
local weight = tonumber(ARGV[last + 1])
local amounts = last + 4
local answer, ok = {{1}}, 1
for i = 1, n do
  local at = 4 * i - 1
  local used = tonumber(counted[i] or 0)
  local before, which = 0, ARGV[at + 3]
  if which ~= '0' and weight > 0 then
    before = tonumber(counted[n + tonumber(which)] or 0)
    used = used + math.ceil(before * weight / 1000000)
  end
  answer[2 * i] = used
  answer[2 * i + 1] = before
  local maximum = tonumber(ARGV[at])
  if maximum >= 0 and used + tonumber(ARGV[amounts + i]) > maximum then ok = 0 end
end
answer[1] = ok
if ok == 0 then return answer end
for i = 1, n do
  local key, at = KEYS[2 + i], 4 * i - 1
  if tonumber(counted[i] or 0) + tonumber(ARGV[amounts + i]) > {MOST_COUNTED} then
    redis.call('SET', key, '{MOST_COUNTED}', 'KEEPTTL')
  else
    redis.call('INCRBY', key, ARGV[amounts + i])
  end
  -- A window's end stays where it is; a slot's counter is kept from its last use on.
  if not counted[i] or ARGV[at + 2] == '1' then redis.call('EXPIREAT', key, ARGV[at + 1]) end
end
if ARGV[last + 2] ~= '0' then
  redis.call('SET', KEYS[2], ARGV[last + 4], 'EX', ARGV[1])
  redis.call('ZADD', KEYS[1], now + tonumber(ARGV[last + 2]), ARGV[last + 3])
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


# KEYS: counters. ARGV: for each what is added, and when it expires.
ADD = (
    _ADDED
    + """
for i = 1, #KEYS do
  added(KEYS[i], tonumber(ARGV[2 * i - 1]))
  redis.call('EXPIREAT', KEYS[i], ARGV[2 * i])
end
"""
)


class _Packed(NamedTuple):
    """What of a step is the same for all calls of one caller in one window, as it goes over the wire."""

    words: int
    head: bytes
    """Up to the key of the lease."""
    tail: bytes
    """From the counters to the amounts."""
    held: tuple[tuple[str, str], ...]
    """What stands around each amount in the JSON of a lease."""


class _Script:
    def __init__(self, text: str) -> None:
        self.text = text
        # What the protocol names a script by; it keeps nothing secret.
        self.name = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest().encode()


_TAKE, _SETTLE, _RENEW, _ADD = (_Script(text) for text in (TAKE, SETTLE, RENEW, ADD))


class RedisLimitStore:
    def __init__(self, link: StoreConnection) -> None:
        self.link = link

    async def reserve(
        self, lease: str, counters: WindowCounters, amounts: Sequence[int], weight: int, seconds: int, lost: Lost
    ) -> ReserveResult:
        packed = counters.packed
        if not isinstance(packed, _Packed):
            packed = counters.packed = _pack(counters.counters)
        held = ",".join([f"{key}{amount}{slot}" for (key, slot), amount in zip(packed.held, amounts, strict=True)])
        terms = (weight, seconds * 1000, lease, f'["{lost}",0,{held}]', *amounts)
        # All of it is ASCII, so that a character is a byte.
        own = "".join([f"${len(word)}\r\n{word}\r\n" for word in map(str, terms)])
        name = _LEASE + lease
        rest = b"%b$%d\r\n%b\r\n%b%b" % (packed.head, len(name), name.encode(), packed.tail, own.encode())
        ok, *counted = await self.link.script(_TAKE.name, _TAKE.text, rest, packed.words + 1 + len(terms))
        return ReserveResult(ok == 1, tuple(counted[::2]), tuple(counted[1::2]))

    async def settle(self, settled: Sequence[SettleResult]) -> None:
        keys, arguments = [_LEASES], list[str | int]()
        for each in settled:
            keys.append(_LEASE + each.lease)
            arguments += (each.lease, len(each.used), *each.used)
        await self._run(_SETTLE, keys, arguments)

    async def add(self, amounts: Sequence[tuple[str, int, int]]) -> None:
        arguments = [number for _, amount, expires in amounts for number in (amount, expires)]
        await self._run(_ADD, [_COUNTER + key for key, _, _ in amounts], arguments)

    async def renew(self, leases: Sequence[str], seconds: int) -> None:
        await self._run(_RENEW, [_LEASES], [seconds * 1000, *leases])

    async def check_writable(self) -> None:
        # A replica answers a PING, and takes no writes.
        await self.link.ask("SET", _PROOF, 1, "PX", 1000)

    async def close(self) -> None:
        await self.link.close()

    async def _run(self, script: _Script, keys: Sequence[str], arguments: Sequence[str | int]) -> None:
        words: tuple[str | int, ...] = (len(keys), *keys, *arguments)
        await self.link.script(script.name, script.text, b"".join(map(bulk, words)), len(words))


def _pack(counters: Sequence[WindowCounter]) -> _Packed:
    """A key is ASCII without quotes or backslashes (see book.py), so that it is JSON as it is."""
    before = [counter.before for counter in counters if counter.before]
    keys = [_COUNTER + key for key in (*(counter.key for counter in counters), *before)]
    static: list[str | int] = [*keys, _KEEP_SECONDS, len(counters)]
    which = 0
    for counter in counters:
        which += bool(counter.before)
        maximum = counter.maximum if counter.hard else -1
        static += (maximum, counter.expires, 1 if counter.slot else 0, which if counter.before else 0)
    return _Packed(
        # How many keys there are, the leases, and the rest.
        2 + len(static),
        bulk(2 + len(keys)) + bulk(_LEASES),
        b"".join(map(bulk, static)),
        tuple((f'"{_COUNTER}{counter.key}",', f",{1 if counter.slot else 0}") for counter in counters),
    )


class RedisKind:
    def build(self, settings: LimitStoreSettings) -> RedisLimitStore:
        """Connects when it is first asked."""
        return RedisLimitStore(StoreConnection(settings.url, settings.timeout))


PLUGIN = RedisKind()
