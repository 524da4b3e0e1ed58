"""The methods that a worker offers to its supervisor, on the socket on which it serves Envoy.

They return a snapshot of metrics, the state of stores and the use of limits, purge the cache, and reload what the admin
API manages. They take and return bytes, so that a worker needs no second server. Any peer that can connect as Envoy can
call them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from ..errors import CallerError, Unavailable
from ..model.limit_use import LimitUse
from .rpc import CallRefused, Methods, Status, Unary

METRICS = "/edge.v1.Worker/Metrics"
PURGE = "/edge.v1.Worker/PurgeCache"
RELOAD = "/edge.v1.Worker/Reload"
STORES = "/edge.v1.Worker/Stores"
LIMITS = "/edge.v1.Worker/Limits"


class Introspection:
    def __init__(
        self,
        snapshot: Callable[[], bytes],
        purge: Callable[[bytes], Awaitable[int]] | None = None,
        reload: Callable[[], Awaitable[None]] | None = None,
        stores: Callable[[], Mapping[str, str | None]] = dict,
        limits: Callable[[], Awaitable[Sequence[LimitUse]]] | None = None,
    ) -> None:
        """`purge` takes the filter of a purge as JSON and returns the number of removed replies; None without a cache.
        `reload` reads again what the admin API manages; None without it. `stores` returns for each store the reason why
        it cannot be used, or None. `limits` returns how much of each limit is used; None without limits."""
        self.methods: Methods = {
            METRICS: Unary(self._metrics),
            PURGE: Unary(self._purge_cache),
            RELOAD: Unary(self._reload),
            STORES: Unary(self._read_stores),
            LIMITS: Unary(self._read_limits),
        }
        self._snapshot = snapshot
        self._purge = purge
        self._reload_managed = reload
        self._stores = stores
        self._limits = limits

    async def _reload(self, request: bytes) -> bytes:
        del request
        if self._reload_managed is not None:
            await self._reload_managed()
        return b""

    async def _read_stores(self, request: bytes) -> bytes:
        del request
        return msgspec.json.encode(self._stores())

    async def _read_limits(self, request: bytes) -> bytes:
        del request
        return msgspec.json.encode(await self._limits() if self._limits is not None else ())

    async def _metrics(self, request: bytes) -> bytes:
        # In a thread: with thousands of series this takes many milliseconds, which would block the event loop.
        del request
        return await asyncio.to_thread(self._snapshot)

    async def _purge_cache(self, request: bytes) -> bytes:
        try:
            return b"%d" % (await self._purge(request) if self._purge is not None else 0)
        except CallerError as error:
            raise CallRefused(Status.INVALID_ARGUMENT, error.message) from error
        except Unavailable as error:
            raise CallRefused(Status.UNAVAILABLE, error.message) from error
