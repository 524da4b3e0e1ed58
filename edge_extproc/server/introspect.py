"""What a worker tells its supervisor and does for it, over the same socket on which it serves Envoy.

Methods of our own, bytes in and bytes out, so that a worker needs no second server: a snapshot of its metrics, the
purge of its cache, and to read anew what is managed. Whoever may speak to a worker as Envoy does may call them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from ..errors import CallerError, Unavailable
from .rpc import CallRefused, Methods, Status, Unary

METRICS = "/edge.v1.Worker/Metrics"
PURGE = "/edge.v1.Worker/PurgeCache"
RELOAD = "/edge.v1.Worker/Reload"
STORES = "/edge.v1.Worker/Stores"


class Introspection:
    def __init__(
        self,
        snapshot: Callable[[], bytes],
        purge: Callable[[bytes], Awaitable[int]] | None = None,
        reload: Callable[[], Awaitable[None]] | None = None,
        stores: Callable[[], Mapping[str, str | None]] = dict,
    ) -> None:
        """`purge` takes what to purge as JSON and says how many replies went; None where there is no cache. `reload`
        reads what is managed anew; None where nothing is. `stores` says of each store why it cannot be used,
        or None."""
        self.methods: Methods = {
            METRICS: Unary(self._metrics),
            PURGE: Unary(self._purge_cache),
            RELOAD: Unary(self._reload),
            STORES: Unary(self._told_stores),
        }
        self._snapshot = snapshot
        self._purge = purge
        self._anew = reload
        self._stores = stores

    async def _reload(self, request: bytes) -> bytes:
        del request
        if self._anew is not None:
            await self._anew()
        return b""

    async def _told_stores(self, request: bytes) -> bytes:
        del request
        return msgspec.json.encode(self._stores())

    async def _metrics(self, request: bytes) -> bytes:
        # Beside the event loop: with thousands of series it takes many milliseconds, in which no request would move.
        del request
        return await asyncio.to_thread(self._snapshot)

    async def _purge_cache(self, request: bytes) -> bytes:
        try:
            return b"%d" % (await self._purge(request) if self._purge is not None else 0)
        except CallerError as error:
            raise CallRefused(Status.INVALID_ARGUMENT, error.message) from error
        except Unavailable as error:
            raise CallRefused(Status.UNAVAILABLE, error.message) from error
