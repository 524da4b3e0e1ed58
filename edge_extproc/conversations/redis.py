"""The store of conversations in Redis or Valkey, which several workers and replicas share.

    <prefix>:{<tenant>}:used         a sorted set: the ids of a tenant's records by the time of their last use
    <prefix>:{<tenant>}:sizes        a hash: the bytes of each record by its id, and those of all records ("")
    <prefix>:{<tenant>}:record:<id>  a list of encrypted blocks, with a time to live

The tenant is a digest of its name, and the hash tag: all keys of a tenant are in one slot of a cluster. Each operation
is one script, so it is atomic.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from ..codecs.sealing import BlockCipher, UnreadableBlock
from ..errors import EdgeError, PolicyUnavailable
from ..telemetry.store_reasons import reason_of
from .base import Blocks, Bounds, RemovalListener, ignore_removal, log_not_stored
from .memory import too_large

_PREFIX = "edge:conversations"

# KEYS of every script: used, sizes, the beginning of the names of records. `make_room` removes records while the tenant
# has more than so many records or bytes, and returns how many.
_COMMON = """
local function now() local t = redis.call('TIME'); return t[1] * 1000 + t[2] / 1000 end
local function remove(id)
  local size = redis.call('HGET', KEYS[2], id)
  if size then redis.call('HINCRBY', KEYS[2], '', -size) end
  redis.call('HDEL', KEYS[2], id)
  redis.call('ZREM', KEYS[1], id)
  return redis.call('DEL', KEYS[3] .. id)
end
local function touch(id, ttl)
  redis.call('PEXPIRE', KEYS[3] .. id, ttl)
  redis.call('ZADD', KEYS[1], now(), id)
  redis.call('PEXPIRE', KEYS[1], ttl)
  redis.call('PEXPIRE', KEYS[2], ttl)
end
local function make_room(entries, size)
  local removed = 0
  while redis.call('ZCARD', KEYS[1]) > tonumber(entries)
    or tonumber(redis.call('HGET', KEYS[2], '')) > tonumber(size) do
    remove(redis.call('ZRANGE', KEYS[1], 0, 0)[1])
    removed = removed + 1
  end
  return removed
end
"""
# ARGV: milliseconds to live, ids. Returns the blocks of each record.
_READ = (
    _COMMON
    + """
local found = {}
for i = 2, #ARGV do
  local blocks = redis.call('LRANGE', KEYS[3] .. ARGV[i], 0, -1)
  if #blocks > 0 then touch(ARGV[i], ARGV[1]) end
  found[i - 1] = blocks
end
return found
"""
)
# ARGV: milliseconds to live, id, block, most records, most bytes, whether it must exist. Returns 1, 0 if it must exist
# and does not, or -1 if it is too large; then how many records had expired, and how many were removed for room. Expired
# records are removed first, because their sizes still count.
_ADD = (
    _COMMON
    + """
local ttl, id, block, size = ARGV[1], ARGV[2], ARGV[3], #ARGV[3]
local expired = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now() - ttl, 'LIMIT', 0, 100)
for _, old in ipairs(expired) do remove(old) end
if ARGV[6] == '1' then
  if redis.call('EXISTS', KEYS[3] .. id) == 0 then return {0, #expired, 0} end
  size = size + (redis.call('HGET', KEYS[2], id) or 0)
end
if size > tonumber(ARGV[5]) then return {-1, #expired, 0} end
if ARGV[6] == '0' then remove(id) end
redis.call('RPUSH', KEYS[3] .. id, block)
redis.call('HINCRBY', KEYS[2], id, #block)
redis.call('HINCRBY', KEYS[2], '', #block)
touch(id, ttl)
return {1, #expired, make_room(ARGV[4], ARGV[5])}
"""
)
# ARGV: milliseconds to live, id, position, the block there, the new block, most records, most bytes. Returns the same;
# 0: the block is not there.
_REPLACE = (
    _COMMON
    + """
local id, name = ARGV[2], KEYS[3] .. ARGV[2]
if redis.call('LINDEX', name, ARGV[3]) ~= ARGV[4] then return {0, 0, 0} end
local growth = #ARGV[5] - #ARGV[4]
if (redis.call('HGET', KEYS[2], id) or 0) + growth > tonumber(ARGV[7]) then return {-1, 0, 0} end
redis.call('LSET', name, ARGV[3], ARGV[5])
redis.call('HINCRBY', KEYS[2], id, growth)
redis.call('HINCRBY', KEYS[2], '', growth)
touch(id, ARGV[1])
return {1, 0, make_room(ARGV[6], ARGV[7])}
"""
)
# ARGV: id, position. Returns the block.
_BLOCK = "return redis.call('LINDEX', KEYS[3] .. ARGV[1], ARGV[2])"
# ARGV: id. Returns the number of removed records.
_DELETE = _COMMON + "return remove(ARGV[1])"


class RedisConversations:
    """The `ConversationStore` in Redis or Valkey."""

    def __init__(
        self,
        url: str,
        timeout: float,
        bounds: Bounds,
        cipher: BlockCipher,
        removed: RemovalListener = ignore_removal,
    ) -> None:
        """`timeout`: of one operation, seconds."""
        self._removed = removed
        self._bounds = bounds
        self._cipher = cipher
        self.down: str | None = None
        # Any, because redis-py's annotations are incomplete.
        self._client: Any = Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            client_name="edge-extproc",
        )
        self._read = self._client.register_script(_READ)
        self._add = self._client.register_script(_ADD)
        self._replace = self._client.register_script(_REPLACE)
        self._block = self._client.register_script(_BLOCK)
        self._delete = self._client.register_script(_DELETE)

    async def read(self, tenant: str, ids: Sequence[str]) -> list[Blocks | None]:
        found = await self._run(self._read, tenant, self._ttl, *ids)
        return [self._opened(tenant, id, blocks) if blocks else None for id, blocks in zip(ids, found, strict=True)]

    async def write(self, tenant: str, id: str, block: bytes) -> None:
        await self._write(tenant, id, block, 0)

    async def append(self, tenant: str, id: str, block: bytes) -> bool:
        return await self._write(tenant, id, block, 1)

    async def replace(self, tenant: str, id: str, at: int, before: bytes, block: bytes) -> bool:
        # Each encryption of a block has other bytes, so the stored ones are read first.
        found = await self._run(self._block, tenant, id, at)
        if found is None or self._opened(tenant, id, [found]) != (before,):
            return False
        sealed, bounds = self._cipher.seal(tenant, id, block), self._bounds
        result = await self._run(self._replace, tenant, self._ttl, id, at, found, sealed, bounds.entries, bounds.size)
        return self._changed(result, len(sealed))

    async def delete(self, tenant: str, id: str) -> bool:
        return bool(await self._run(self._delete, tenant, id))

    def not_stored(self, tenant: str, error: EdgeError) -> None:
        log_not_stored(tenant, error)

    async def close(self) -> None:
        await self._client.aclose()

    @property
    def _ttl(self) -> int:
        return round(self._bounds.ttl * 1000)

    async def _write(self, tenant: str, id: str, block: bytes, must_exist: int) -> bool:
        sealed, bounds = self._cipher.seal(tenant, id, block), self._bounds
        result = await self._run(self._add, tenant, self._ttl, id, sealed, bounds.entries, bounds.size, must_exist)
        return self._changed(result, len(sealed))

    def _changed(self, result: list[int], size: int) -> bool:
        """The result of a script that writes `size` bytes."""
        code, expired, room = result
        if expired:
            self._removed("expired", expired)
        if room:
            self._removed("room", room)
        if code < 0:
            raise too_large(size, self._bounds.size)
        return bool(code)

    def _opened(self, tenant: str, id: str, blocks: list[bytes]) -> Blocks | None:
        try:
            return tuple(self._cipher.open(tenant, id, block) for block in blocks)
        except UnreadableBlock:
            structlog.get_logger().warning("conversation_unreadable", tenant=tenant)
            return None

    async def _run(self, script: Any, tenant: str, *arguments: str | bytes | int) -> Any:
        tag = f"{_PREFIX}:{{{hashlib.sha256(tenant.encode()).hexdigest()[:32]}}}"
        try:
            result = await script(keys=[f"{tag}:used", f"{tag}:sizes", f"{tag}:record:"], args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            self.down = reason_of(error)
            raise PolicyUnavailable("the store of conversations cannot be used now; try again later") from error
        self.down = None
        return result
