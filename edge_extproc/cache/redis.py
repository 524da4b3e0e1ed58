"""The L2 store in Redis or Valkey: a single server, behind Sentinels, or a cluster.

    <namespace>:<owner>:<model>:{<digest>}         a packed entry, with a time to live
    <namespace>:<owner>:<model>:{<digest>}:lease   the token of the process that is fetching this reply; it expires
    <namespace>:purges                             the purge log: how many purges there were, and the last of them

The digest is the hash tag, so a cluster keeps an entry and its lease in one slot, and spreads entries over all slots.
No method waits longer than the socket time-out, and nothing is retried: the callers decide that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec
from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import ConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError, ResponseError
from redis.retry import Retry

from ..telemetry.store_reasons import reason_of
from .key import CacheKey
from .l2 import CacheStoreError, FlightLease, Purges, StoreResult

# Each step is one script, so that it is atomic. KEYS: the entry, its lease.
# ARGV: token, the lease's milliseconds, and for how many milliseconds after its expiry an entry stays.
# Returns {value} for a fresh entry. Otherwise {value or false, 1} if the caller has the lease now, or {value or false,
# 0} if another process has it.
_GET = """
local found = redis.call('GET', KEYS[1])
if found and (ARGV[3] == '0' or redis.call('PTTL', KEYS[1]) > tonumber(ARGV[3])) then return {found} end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return {found, 1} end
return {found, 0}
"""
# ARGV: token, value, milliseconds. The lease is deleted only if its token is the caller's.
_PUT = """
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
return 1
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
# One script, so that no purge is lost. ARGV: the selection, how many to keep.
_NOTE = """
local log = cjson.decode(redis.call('GET', KEYS[1]) or '{"noted":0,"told":[]}')
log.noted = log.noted + 1
table.insert(log.told, ARGV[1])
while #log.told > tonumber(ARGV[2]) do table.remove(log.told, 1) end
redis.call('SET', KEYS[1], cjson.encode(log))
return log.noted
"""
# Purges in the log. A process that has missed more than these empties its L1.
_PURGES_KEPT = 100
# Keys that one step of a purge scans.
_SCAN_COUNT = 500
_MAX_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class RedisCacheSettings:
    """Exactly one of `url`, `cluster` and `sentinels` is set; `sentinels` needs `master`. Durations in seconds."""

    url: str | None = None
    cluster: Sequence[tuple[str, int]] = ()
    sentinels: Sequence[tuple[str, int]] = ()
    master: str = ""
    database: int = 0
    """Only for Sentinels: a URL names its own database, and a cluster has one."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: str | None = None
    certificate: str | None = None
    private_key: str | None = None
    namespace: str = "edge"
    timeout: float = 1.0
    """The longest wait for a connection or a reply. After it the connection is closed."""


class RedisCacheStore:
    """The `CacheStore` in Redis or Valkey."""

    def __init__(self, settings: RedisCacheSettings) -> None:
        self._settings = settings
        self._client, self._sentinels = _clients(settings)
        self._digests: dict[str, str] = {}

    def name(self, key: CacheKey) -> str:
        return f"{self._settings.namespace}:{key.owner}:{quote(key.model, safe='')}:{{{key.digest.hex()}}}"

    def patterns(self, owners: Sequence[str], model: str | None, digest: bytes | None) -> tuple[str, ...]:
        """Glob patterns for the names of these owners' entries. An owner may contain *, and no other special
        character."""
        models = quote(model, safe="") if model is not None else "*"
        digests = "{" + digest.hex() + "}" if digest is not None else "{*}"
        return tuple(f"{_escaped(self._settings.namespace)}:{owner}:{models}:{digests}" for owner in owners)

    async def get(self, name: str, lease: FlightLease | None) -> StoreResult:
        with _TranslatedErrors():
            if lease is None:
                return StoreResult(await self._client.get(name), has_lease=False, is_leased=False)
            try:
                reply = await self._run(_GET, (name, _lease(name)), lease.token, lease.milliseconds, lease.stale)
            except OutOfMemoryError:  # a full server refuses every script that may write
                return StoreResult(await self._client.get(name), has_lease=False, is_leased=False)
            if len(reply) == 1:
                return StoreResult(reply[0], has_lease=False, is_leased=False)
            return StoreResult(reply[0], has_lease=reply[1] == 1, is_leased=reply[1] == 0)

    async def look(self, name: str) -> StoreResult:
        """Without taking a lease."""
        with _TranslatedErrors():
            # In this order: an entry is written before its lease ends, so "no lease, no entry" means that none comes.
            is_leased = bool(await self._client.exists(_lease(name)))
            reply = await self._client.get(name)
            return StoreResult(reply, has_lease=False, is_leased=is_leased)

    async def put(self, name: str, packed: bytes, milliseconds: int, token: str) -> None:
        with _TranslatedErrors():
            await self._run(_PUT, (name, _lease(name)), token, packed, milliseconds)

    async def release(self, name: str, token: str) -> None:
        with _TranslatedErrors():
            await self._run(_RELEASE, (_lease(name),), token)

    async def purge(self, patterns: Sequence[str]) -> int:
        removed = 0
        with _TranslatedErrors():
            for pattern in patterns:
                batch: list[bytes] = []
                async for name in self._client.scan_iter(match=pattern, count=_SCAN_COUNT):
                    batch.append(name)
                    if len(batch) >= _SCAN_COUNT:
                        removed += await self._delete(batch)
                        batch = []
                removed += await self._delete(batch)
        return removed

    async def note_purge(self, selection: str) -> None:
        with _TranslatedErrors():
            await self._run(_NOTE, (self._purges,), selection, _PURGES_KEPT)

    async def purges(self) -> Purges:
        with _TranslatedErrors():
            reply = await self._client.get(self._purges)
        try:
            return _read_purges(reply) if reply is not None else Purges(0)
        except msgspec.MsgspecError as error:  # another program's value
            raise CacheStoreError("refused") from error

    @property
    def _purges(self) -> str:
        return f"{self._settings.namespace}:purges"

    @property
    def _probe_name(self) -> str:
        return f"{self._settings.namespace}:proof"

    async def check_writable(self) -> None:
        with _TranslatedErrors():
            # A write, because a read-only replica answers a PING too.
            await self._client.set(self._probe_name, b"1", px=1000)

    async def close(self) -> None:
        for client in (self._client, *self._sentinels):
            await client.aclose()

    async def _delete(self, names: list[bytes]) -> int:
        if not names:
            return 0
        if isinstance(self._client, RedisCluster):  # each name is in another slot, so each needs its own command
            return sum([await self._client.unlink(name) for name in names])
        return int(await self._client.unlink(*names))

    async def _run(self, script: str, keys: Sequence[str], *values: str | bytes | int) -> Any:
        digest = self._digests.get(script)
        if digest is not None:
            try:
                return await self._client.evalsha(digest, len(keys), *keys, *values)
            except NoScriptError:
                pass  # the server was restarted
        reply = await self._client.eval(script, len(keys), *keys, *values)
        self._digests[script] = _sha1(script)
        return reply


_read_purges = msgspec.json.Decoder(Purges).decode


def _sha1(script: str) -> str:
    import hashlib

    # The protocol identifies scripts by SHA-1. It protects nothing.
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _lease(name: str) -> str:
    return name + ":lease"


def _escaped(text: str) -> str:
    return "".join("\\" + c if c in "*?[]\\^" else c for c in text)


class _TranslatedErrors:
    """A context that turns the client library's errors into CacheStoreError."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        match error:
            case OutOfMemoryError():
                raise CacheStoreError("full", reason_of(error)) from error
            case ResponseError():
                raise CacheStoreError("refused", reason_of(error)) from error
            case RedisError() | OSError() | TimeoutError():
                raise CacheStoreError("unreachable", reason_of(error)) from error
            case _:
                return


def _clients(settings: RedisCacheSettings) -> tuple[Any, Sequence[Any]]:
    """The client for all commands, and the clients of the Sentinels, which also must be closed."""
    common: dict[str, Any] = {
        "socket_timeout": settings.timeout,
        "socket_connect_timeout": settings.timeout,
        "retry": Retry(NoBackoff(), 0),
        "username": settings.username,
        "password": settings.password,
        "client_name": "edge-extproc",
    }
    tls: dict[str, Any] = {
        "ssl_ca_certs": settings.ca,
        "ssl_certfile": settings.certificate,
        "ssl_keyfile": settings.private_key,
    }
    if settings.cluster:
        nodes = [ClusterNode(host, port) for host, port in settings.cluster]
        cluster = RedisCluster(
            startup_nodes=nodes,
            max_connections=_MAX_CONNECTIONS,
            # A cluster may serve only a part of its slots. The other slots are misses.
            require_full_coverage=False,
            **common,
            **({"ssl": True, **tls} if settings.tls else {}),
        )
        return cluster, ()
    if settings.sentinels:
        own = {"username": settings.sentinel_username, "password": settings.sentinel_password}
        secured = {"ssl": True, **tls} if settings.tls else {}
        sentinel = Sentinel(list(settings.sentinels), sentinel_kwargs={**common, **own, **secured})
        master = sentinel.master_for(
            settings.master, db=settings.database, max_connections=_MAX_CONNECTIONS, **common, **secured
        )
        return master, sentinel.sentinels
    url = settings.url or ""
    secured = tls if url.startswith("rediss://") else {}
    pool = ConnectionPool.from_url(url, max_connections=_MAX_CONNECTIONS, **common, **secured)
    return Redis.from_pool(pool), ()


PLUGIN = RedisCacheStore
