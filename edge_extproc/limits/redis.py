"""The shared `LimitStore` in Redis or Valkey: one script and one round trip for all limits of a call.

    {edge}:c:<key>     a counter
    {edge}:lease:<id>  a lease: [charge or release, is lost, key, amount, slot, key, amount, slot, …]
    {edge}:c:<key>most the smallest maximum that a call has stated for a run's counter
    {edge}:run:<tenant>:<run>  the run that it is a part of, or empty
    {edge}:complete    exists while the counters have all that the ledger has: it is lost with them
    {edge}:leases      a sorted set of the leases by the time at which they are lost
    {edge}:workers     a sorted set of the workers that use the store, by the time from which they are not counted

All keys have the same hash tag, so a cluster keeps them in one slot. Times of leases and workers are by the server's
clock; a worker's clock only selects the window of a call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from .base import (
    MAX_COUNT,
    MAX_RUNS,
    MOST,
    LimitStoreDown,
    LimitStoreSettings,
    Lost,
    ReserveResult,
    SettleResult,
    WindowCounter,
    WindowCounters,
    WrongParent,
)
from .store_connection import StoreConnection, bulk

_TAG = "{edge}:"
_LEASES = _TAG + "leases"
_LEASE = _TAG + "lease:"
_COUNTER = _TAG + "c:"
_RUN = _TAG + "run:"
_PROBE = _TAG + "proof"
_COMPLETE = _TAG + "complete"
_WORKERS = _TAG + "workers"
_LOST = "its counters were lost, and are being rebuilt from the ledger"
# Counters of one command.
_BATCH = 500
# Seconds that a lease is stored, lost or not: a worker may still settle a lost one.
_LEASE_SECONDS = 86_400
# One step handles so many lost leases. A step creates one lease, so a backlog shrinks.
_LOST_BATCH = 16

# A counter stays within the integers that are exact in Lua. An INCRBY beyond 64 bits is an error, which would leave a
# step half done.
_ADDED = f"""
local function added(key, by)
  local now = tonumber(redis.call('GET', key) or 0) + by
  if now < 0 or now > {MAX_COUNT} then
    redis.call('SET', key, now < 0 and '0' or '{MAX_COUNT}', 'KEEPTTL')
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

# KEYS: leases, this lease, the counters, the counters of the previous windows.
# ARGV: seconds to store a lease, the number of counters, and for each counter four numbers: its maximum (-1: soft), its
# expiry, its kind (0: window, 1: slot, 2: run, 3: clock), and the index of its previous window's counter (0: none) or,
# of a run or clock, the maximum that this call states (-1: none). Then the weight, the lease's
# milliseconds (0: no lease), its name, its JSON, and the amounts.
# Returns 1 or 0, then for each counter its value before, and the value of the previous window or the maximum that
# applies to a run or clock. A clock's counter has the milliseconds of its first call.
RESERVE = (
    _CHANGE
    + f"""
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, {_LOST_BATCH})) do
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
  local before, which, kind = 0, ARGV[at + 3], ARGV[at + 2]
  local maximum = tonumber(ARGV[at])
  if kind == '2' or kind == '3' then
    local name = KEYS[2 + i] .. '{MOST}'
    local most, stated = tonumber(redis.call('GET', name) or -1), tonumber(which)
    if stated >= 0 and (most < 0 or stated < most) then
      most = stated
      redis.call('SET', name, which)
    end
    if most >= 0 then
      redis.call('EXPIREAT', name, ARGV[at + 1])
      if most < maximum then maximum = most end
    end
    before = maximum
    if kind == '3' then
      if counted[i] then used = math.max(0, math.floor((now - used) / 1000)) end
      if used >= maximum then ok = 0 end
    end
  elseif which ~= '0' and weight > 0 then
    before = tonumber(counted[n + tonumber(which)] or 0)
    used = used + math.ceil(before * weight / 1000000)
  end
  answer[2 * i] = used
  answer[2 * i + 1] = before
  if maximum >= 0 and used + tonumber(ARGV[amounts + i]) > maximum then ok = 0 end
end
answer[1] = ok
if ok == 0 then return answer end
for i = 1, n do
  local key, at = KEYS[2 + i], 4 * i - 1
  local kind = ARGV[at + 2]
  if kind == '3' then
    if not counted[i] then redis.call('SET', key, string.format('%.0f', now)) end
  elseif tonumber(counted[i] or 0) + tonumber(ARGV[amounts + i]) > {MAX_COUNT} then
    redis.call('SET', key, '{MAX_COUNT}', 'KEEPTTL')
  else
    redis.call('INCRBY', key, ARGV[amounts + i])
  end
  -- A window's expiry is fixed; other counters expire some time after their last use.
  if not counted[i] or kind ~= '0' then redis.call('EXPIREAT', key, ARGV[at + 1]) end
end
if ARGV[last + 2] ~= '0' then
  redis.call('SET', KEYS[2], ARGV[last + 4], 'EX', ARGV[1])
  redis.call('ZADD', KEYS[1], now + tonumber(ARGV[last + 2]), ARGV[last + 3])
end
return answer
"""
)

# For counters that are rebuilt after a loss. Returns -1 until they are.
RESERVE_COMPLETE = f"if redis.call('EXISTS', '{_COMPLETE}') == 0 then return {{-1}} end\n" + RESERVE

# KEYS: counters. ARGV: for each the least value that it must have, and its expiry.
RAISE = """
for i = 1, #KEYS do
  if tonumber(redis.call('GET', KEYS[i]) or 0) < tonumber(ARGV[2 * i - 1]) then
    redis.call('SET', KEYS[i], ARGV[2 * i - 1])
    redis.call('EXPIREAT', KEYS[i], ARGV[2 * i])
  end
end
"""

# KEYS: leases, then each lease. ARGV: for each lease its name, the number of its counters, and the final amount of each
# (-1: the reserved amount).
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


# KEYS: a run. ARGV: the seconds to store it, its name, its parent ("": none), the beginning of the keys of runs, and
# the most runs. Returns the run, its parent, and so on; or "" and why not.
ANCESTRY = """
local chain, above = {ARGV[2]}, redis.call('GET', KEYS[1])
if above and ARGV[3] ~= '' and ARGV[3] ~= above then return {'', above == '' and 'root' or 'other', above} end
above = above or ARGV[3]
local first = above
while above ~= '' do
  if above == ARGV[2] then return {'', 'itself'} end
  if #chain >= tonumber(ARGV[5]) then return {'', 'deep'} end
  chain[#chain + 1] = above
  local key = ARGV[4] .. above
  above = redis.call('GET', key) or ''
  redis.call('SET', key, above, 'EX', ARGV[1])
end
redis.call('SET', KEYS[1], first, 'EX', ARGV[1])
return chain
"""


# KEYS: counters. ARGV: for each the amount to add, and its expiry.
ADD = (
    _ADDED
    + """
for i = 1, #KEYS do
  added(KEYS[i], tonumber(ARGV[2 * i - 1]))
  redis.call('EXPIREAT', KEYS[i], ARGV[2 * i])
end
"""
)

# KEYS: the workers. ARGV: the name of one, and the milliseconds until it expires. Returns their number.
JOIN = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
"""


class _CommandParts(NamedTuple):
    """The constant part of a command, encoded once for all calls of one caller in one window."""

    words: int
    head: bytes
    """The part before the key of the lease."""
    tail: bytes
    """The part between the key of the lease and the weight."""
    around: tuple[tuple[str, str], ...]
    """The text before and after each amount in the JSON of a lease."""


class _Script:
    def __init__(self, text: str) -> None:
        self.text = text
        # The protocol identifies scripts by SHA-1. It protects nothing.
        self.name = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest().encode()


_RESERVE, _RESERVE_COMPLETE, _RAISE, _SETTLE, _RENEW, _ADD, _ANCESTRY, _JOIN = (
    _Script(text) for text in (RESERVE, RESERVE_COMPLETE, RAISE, SETTLE, RENEW, ADD, ANCESTRY, JOIN)
)


class RedisLimitStore:
    """The `LimitStore` over one connection."""

    def __init__(self, connection: StoreConnection, *, rebuilt: bool = False) -> None:
        """`rebuilt`: as in `LimitStoreSettings`."""
        self.connection = connection
        self._rebuilt = rebuilt
        self._script = _RESERVE_COMPLETE if rebuilt else _RESERVE

    async def reserve(
        self, lease: str, counters: WindowCounters, amounts: Sequence[int], weight: int, seconds: int, lost: Lost
    ) -> ReserveResult:
        packed = counters.packed
        if not isinstance(packed, _CommandParts):
            packed = counters.packed = _pack(counters.items)
        reserved = ",".join(
            [f"{key}{amount}{slot}" for (key, slot), amount in zip(packed.around, amounts, strict=True)]
        )
        terms = (weight, seconds * 1000, lease, f'["{lost}",0,{reserved}]', *amounts)
        # All words are ASCII, so the number of characters is the number of bytes.
        own = "".join([f"${len(word)}\r\n{word}\r\n" for word in map(str, terms)])
        name = _LEASE + lease
        rest = b"%b$%d\r\n%b\r\n%b%b" % (packed.head, len(name), name.encode(), packed.tail, own.encode())
        script, words = self._script, packed.words + 1 + len(terms)
        ok, *counted = await self.connection.script(script.name, script.text, rest, words)
        if ok == -1:
            raise LimitStoreDown(_LOST)
        return ReserveResult(ok == 1, tuple(counted[::2]), tuple(counted[1::2]))

    async def ancestry(self, tenant: str, run: str, parent: str | None, seconds: int) -> tuple[str, ...]:
        beginning = f"{_RUN}{quote(tenant, safe='')}:"
        name, above = quote(run, safe=""), quote(parent or "", safe="")
        words: tuple[str | int, ...] = (1, beginning + name, seconds, name, above, beginning, MAX_RUNS)
        raw = b"".join(map(bulk, words))
        chain = [
            unquote(each.decode())
            for each in await self.connection.script(_ANCESTRY.name, _ANCESTRY.text, raw, len(words))
        ]
        match chain:
            case ["", "other", known]:
                raise WrongParent(f"it began with the parent {known!r}")
            case ["", "root", *_]:
                raise WrongParent("it began without a parent")
            case ["", "itself"]:
                raise WrongParent("it would be a part of itself")
            case ["", *_]:
                raise WrongParent(f"it would be a part of more than {MAX_RUNS - 1} runs")
            case _:
                return tuple(chain)

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

    async def read(self, keys: Sequence[str]) -> Sequence[int]:
        return [int(value or 0) for value in await self.connection.send("MGET", *(_COUNTER + key for key in keys))]

    async def join(self, worker: str, milliseconds: int) -> int:
        return int(await self._run(_JOIN, [_WORKERS], [worker, milliseconds]))

    async def leave(self, worker: str) -> None:
        await self.connection.send("ZREM", _WORKERS, worker)

    async def check_writable(self) -> None:
        # A write, because a read-only replica answers a PING too.
        await self.connection.send("SET", _PROBE, 1, "PX", 1000)
        if self._rebuilt and not await self.is_complete():
            raise LimitStoreDown(_LOST)

    async def is_complete(self) -> bool:
        """Whether the counters have all that the ledger has. False after they were lost. Raises LimitStoreDown."""
        return bool(await self.connection.send("EXISTS", _COMPLETE))

    async def complete(self, least: Sequence[tuple[str, int, int]]) -> None:
        """Raises counters to what the ledger has, and marks them as complete. `least`: a counter's key, its least value
        and its expiry. Raises LimitStoreDown."""
        for n in range(0, len(least), _BATCH):
            some = least[n : n + _BATCH]
            arguments = [number for _, amount, expires in some for number in (amount, expires)]
            await self._run(_RAISE, [_COUNTER + key for key, _, _ in some], arguments)
        await self.connection.send("SET", _COMPLETE, 1)

    async def close(self) -> None:
        await self.connection.close()

    async def _run(self, script: _Script, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        words: tuple[str | int, ...] = (len(keys), *keys, *arguments)
        return await self.connection.script(script.name, script.text, b"".join(map(bulk, words)), len(words))


def _pack(counters: Sequence[WindowCounter]) -> _CommandParts:
    """A key is ASCII without quotes and backslashes (see rule_table.py), so it needs no escapes in JSON."""
    before = [counter.before for counter in counters if counter.before]
    keys = [_COUNTER + key for key in (*(counter.key for counter in counters), *before)]
    static: list[str | int] = [*keys, _LEASE_SECONDS, len(counters)]
    which = 0
    for counter in counters:
        which += bool(counter.before)
        maximum = counter.maximum if counter.hard else -1
        other = counter.stated if counter.kind != "window" else which if counter.before else 0
        static += (maximum, counter.expires, _kind(counter), other)
    return _CommandParts(
        # Two more: the number of keys, and the sorted set of leases.
        2 + len(static),
        bulk(2 + len(keys)) + bulk(_LEASES),
        b"".join(map(bulk, static)),
        tuple((f'"{_COUNTER}{counter.key}",', f",{1 if counter.slot else 0}") for counter in counters),
    )


def _kind(counter: WindowCounter) -> int:
    match counter.kind:
        case "run":
            return 2
        case "clock":
            return 3
        case "window":
            return 1 if counter.slot else 0


class RedisKind:
    def build(self, settings: LimitStoreSettings) -> RedisLimitStore:
        """The store connects at its first use."""
        return RedisLimitStore(StoreConnection(settings.url, settings.timeout), rebuilt=settings.rebuilt)


PLUGIN = RedisKind()
