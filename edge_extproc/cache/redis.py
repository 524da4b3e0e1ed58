"""A store that many share: Redis or Valkey, alone, behind Sentinels or as a cluster. The only file that knows it.

    <namespace>:<owner>:<model>:{<digest>}         a packed entry, with a time to live
    <namespace>:<owner>:<model>:{<digest>}:lease   who is asking a provider this now, and until when
    <namespace>:purges                             how many purges there were, and the last of them

The digest is the hash tag: a cluster keeps both together, and two entries apart. Nothing here waits for longer than
a socket's time-out, and nothing is tried twice: who needs more patience has it.
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

# One step each, so that nothing comes between. KEYS: the entry, its lease.
# ARGV: token, milliseconds, and for how many of them an entry may stay past its time. Answers {value}, or with what is
# past its time or false: {value, 1} with the lease now ours, {value, 0}: it is another's.
_GET = """
local found = redis.call('GET', KEYS[1])
if found and (ARGV[3] == '0' or redis.call('PTTL', KEYS[1]) > tonumber(ARGV[3])) then return {found} end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return {found, 1} end
return {found, 0}
"""
# ARGV: token, value, milliseconds. The lease goes only if it is ours.
_PUT = """
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
return 1
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
# One step, that none is lost. ARGV: what was purged, how many to keep.
_NOTE = """
local log = cjson.decode(redis.call('GET', KEYS[1]) or '{"noted":0,"told":[]}')
log.noted = log.noted + 1
table.insert(log.told, ARGV[1])
while #log.told > tonumber(ARGV[2]) do table.remove(log.told, 1) end
redis.call('SET', KEYS[1], cjson.encode(log))
return log.noted
"""
# Purges that are told. Each worker of a machine notes the one that it was told of; who has missed more forgets all.
_MOST_TOLD = 100
# Keys looked at by one step of a purge.
_SCANNED = 500
_MOST_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class RedisCacheSettings:
    """Exactly one of `url`, `cluster` and `sentinels` is given; the last one with `master`. Durations in seconds."""

    url: str | None = None
    cluster: Sequence[tuple[str, int]] = ()
    sentinels: Sequence[tuple[str, int]] = ()
    master: str = ""
    database: int = 0
    """Behind Sentinels; a URL names its own, a cluster has one."""
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
    """Of a connection and of one answer, after which a connection is given up."""


class RedisCacheStore:
    def __init__(self, settings: RedisCacheSettings) -> None:
        self._settings = settings
        self._client, self._beside = _clients(settings)
        self._digests: dict[str, str] = {}

    def name(self, key: CacheKey) -> str:
        return f"{self._settings.namespace}:{key.owner}:{quote(key.model, safe='')}:{{{key.digest.hex()}}}"

    def patterns(self, owners: Sequence[str], model: str | None, digest: bytes | None) -> tuple[str, ...]:
        """What names to look for. Owners may hold * and nothing else that a pattern knows."""
        models = quote(model, safe="") if model is not None else "*"
        digests = "{" + digest.hex() + "}" if digest is not None else "{*}"
        return tuple(f"{_literal(self._settings.namespace)}:{owner}:{models}:{digests}" for owner in owners)

    async def get(self, name: str, lease: FlightLease | None) -> StoreResult:
        with _Told():
            if lease is None:
                return StoreResult(await self._client.get(name), leads=False, led=False)
            try:
                found = await self._run(_GET, (name, _lease(name)), lease.token, lease.milliseconds, lease.stale)
            except OutOfMemoryError:  # it refuses whatever might write
                return StoreResult(await self._client.get(name), leads=False, led=False)
            if len(found) == 1:
                return StoreResult(found[0], leads=False, led=False)
            return StoreResult(found[0], leads=found[1] == 1, led=found[1] == 0)

    async def look(self, name: str) -> StoreResult:
        """Without taking a lease."""
        with _Told():
            # In this order: a lease ends when its entry is there, so the entry cannot come unseen in between.
            led = bool(await self._client.exists(_lease(name)))
            found = await self._client.get(name)
            return StoreResult(found, leads=False, led=led)

    async def put(self, name: str, packed: bytes, milliseconds: int, token: str) -> None:
        with _Told():
            await self._run(_PUT, (name, _lease(name)), token, packed, milliseconds)

    async def release(self, name: str, token: str) -> None:
        with _Told():
            await self._run(_RELEASE, (_lease(name),), token)

    async def purge(self, patterns: Sequence[str]) -> int:
        gone = 0
        with _Told():
            for pattern in patterns:
                found: list[bytes] = []
                async for name in self._client.scan_iter(match=pattern, count=_SCANNED):
                    found.append(name)
                    if len(found) >= _SCANNED:
                        gone += await self._delete(found)
                        found = []
                gone += await self._delete(found)
        return gone

    async def note_purge(self, told: str) -> None:
        with _Told():
            await self._run(_NOTE, (self._purges,), told, _MOST_TOLD)

    async def purges(self) -> Purges:
        with _Told():
            found = await self._client.get(self._purges)
        try:
            return _read_purges(found) if found is not None else Purges(0)
        except msgspec.MsgspecError as error:  # not ours
            raise CacheStoreError("refused") from error

    @property
    def _purges(self) -> str:
        return f"{self._settings.namespace}:purges"

    @property
    def _proof(self) -> str:
        return f"{self._settings.namespace}:proof"

    async def prove(self) -> None:
        with _Told():
            # A replica answers a PING, and takes no writes.
            await self._client.set(self._proof, b"1", px=1000)

    async def close(self) -> None:
        for client in (self._client, *self._beside):
            await client.aclose()

    async def _delete(self, names: list[bytes]) -> int:
        if not names:
            return 0
        if isinstance(self._client, RedisCluster):  # each name has a slot of its own
            return sum([await self._client.unlink(name) for name in names])
        return int(await self._client.unlink(*names))

    async def _run(self, script: str, keys: Sequence[str], *values: str | bytes | int) -> Any:
        digest = self._digests.get(script)
        if digest is not None:
            try:
                return await self._client.evalsha(digest, len(keys), *keys, *values)
            except NoScriptError:
                pass  # the server was started anew
        found = await self._client.eval(script, len(keys), *keys, *values)
        self._digests[script] = _sha1(script)
        return found


_read_purges = msgspec.json.Decoder(Purges).decode


def _sha1(script: str) -> str:
    import hashlib

    # What the protocol calls a script by; nothing secret hangs on it.
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _lease(name: str) -> str:
    return name + ":lease"


def _literal(text: str) -> str:
    return "".join("\\" + c if c in "*?[]\\^" else c for c in text)


class _Told:
    """Whatever the library raises becomes a StoreError with one of few words."""

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
    """The one that is talked to, and those that it needs for itself."""
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
            max_connections=_MOST_CONNECTIONS,
            # A cluster may serve a part of its slots; the rest is a miss.
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
            settings.master, db=settings.database, max_connections=_MOST_CONNECTIONS, **common, **secured
        )
        return master, sentinel.sentinels
    url = settings.url or ""
    secured = tls if url.startswith("rediss://") else {}
    pool = ConnectionPool.from_url(url, max_connections=_MOST_CONNECTIONS, **common, **secured)
    return Redis.from_pool(pool), ()


PLUGIN = RedisCacheStore
