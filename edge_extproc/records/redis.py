"""The records of all gateways, in Redis or Valkey. Each step is one command or one script, so it is atomic."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from ..telemetry.store_reasons import reason_of
from .base import RecordStoreDown

_PREFIX = b"edge:record:"
# ARGV: the value, milliseconds. Returns the existing value, or false.
_CLAIM = """
local found = redis.call('GET', KEYS[1])
if found then return found end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
"""
# ARGV: the value before, the new value, milliseconds.
_REPLACE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""
_REMOVE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""


class RedisRecords:
    """A `RecordStore`. `timeout`: the longest wait for a connection or a reply, seconds."""

    def __init__(self, url: str, timeout: float) -> None:
        self._client: Redis = Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            client_name="edge-extproc",
        )

    async def get(self, names: Sequence[bytes]) -> list[bytes | None]:
        if not names:
            return []
        # One command for each name: in a cluster, each name is in another slot.
        pipe = self._client.pipeline(transaction=False)
        for name in names:
            pipe.get(_PREFIX + name)
        values: list[bytes | None] = await _translated(pipe.execute())
        return values

    async def add(self, names: Sequence[bytes], value: bytes, seconds: float | None) -> None:
        pipe = self._client.pipeline(transaction=False)
        for name in names:
            pipe.set(_PREFIX + name, value, nx=True, px=_milliseconds(seconds))
        await _translated(pipe.execute())

    async def claim(self, name: bytes, value: bytes, seconds: float) -> bytes | None:
        reply = self._client.eval(_CLAIM, 1, *_texts(_PREFIX + name, value), str(_milliseconds(seconds)))
        found: bytes | None = await _translated(reply)
        return found

    async def replace(self, name: bytes, before: bytes, value: bytes, seconds: float) -> bool:
        reply = self._client.eval(_REPLACE, 1, *_texts(_PREFIX + name, before, value), str(_milliseconds(seconds)))
        return bool(await _translated(reply))

    async def remove(self, name: bytes, value: bytes) -> None:
        await _translated(self._client.eval(_REMOVE, 1, *_texts(_PREFIX + name, value)))

    async def close(self) -> None:
        await self._client.aclose()


def _texts(*values: bytes) -> tuple[Any, ...]:
    """The client takes bytes, although its types name only strings."""
    return values


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else max(1, int(seconds * 1000))


async def _translated(reply: Any) -> Any:
    """The server's reply. Raises RecordStoreDown for every error of the client library."""
    try:
        return await reply if isinstance(reply, Awaitable) else reply
    except (RedisError, OSError, TimeoutError) as error:
        raise RecordStoreDown(reason_of(error)) from error
