"""The methods that a worker offers to its supervisor, on the socket on which it serves Envoy.

They return a snapshot of metrics, the state of stores, the use of limits and the prices of models, purge the cache,
probe a provider, announce and take a debug capture, and reload what the admin API manages. They take and return bytes,
so that a worker needs no second server. Any peer that can connect as Envoy can call them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from ..errors import CallerError, Unavailable
from ..exchange.capture import Captures
from ..model.limit_use import LimitUse
from ..model.provider_probe import ProviderPrice, ProviderProbe
from .rpc import CallRefused, Methods, Status, Unary

METRICS = "/edge.v1.Worker/Metrics"
PURGE = "/edge.v1.Worker/PurgeCache"
RELOAD = "/edge.v1.Worker/Reload"
STORES = "/edge.v1.Worker/Stores"
LIMITS = "/edge.v1.Worker/Limits"
PROBE = "/edge.v1.Worker/Probe"
PRICES = "/edge.v1.Worker/Prices"
EXPECT = "/edge.v1.Worker/ExpectCapture"
TAKE = "/edge.v1.Worker/TakeCapture"


class Introspection:
    def __init__(
        self,
        snapshot: Callable[[], bytes],
        purge: Callable[[bytes], Awaitable[int]] | None = None,
        reload: Callable[[], Awaitable[None]] | None = None,
        stores: Callable[[], Mapping[str, str | None]] = dict,
        limits: Callable[[], Awaitable[Sequence[LimitUse]]] | None = None,
        probe: Callable[[str], Awaitable[ProviderProbe | None]] | None = None,
        prices: Callable[[], Sequence[ProviderPrice]] = tuple,
        captures: Captures | None = None,
    ) -> None:
        """`purge` takes the filter of a purge as JSON and returns the number of removed replies; None without a cache.
        `reload` reads again what the admin API manages; None without it. `stores` returns for each store the reason why
        it cannot be used, or None. `limits` returns how much of each limit is used; None without limits. `probe` sends
        a request to a provider, and returns None for an unknown one. `prices` returns those of the candidates.
        `captures`: the debug captures, which are announced and taken here."""
        self.methods: Methods = {
            METRICS: Unary(self._metrics),
            PURGE: Unary(self._purge_cache),
            RELOAD: Unary(self._reload),
            STORES: Unary(self._read_stores),
            LIMITS: Unary(self._read_limits),
            PROBE: Unary(self._probe_provider),
            PRICES: Unary(self._read_prices),
            EXPECT: Unary(self._expect_capture),
            TAKE: Unary(self._take_capture),
        }
        self._snapshot = snapshot
        self._purge = purge
        self._reload_managed = reload
        self._stores = stores
        self._limits = limits
        self._probe = probe
        self._prices = prices
        self._captures = captures

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

    async def _probe_provider(self, request: bytes) -> bytes:
        found = await self._probe(request.decode(errors="replace")) if self._probe is not None else None
        if found is None:
            raise CallRefused(Status.INVALID_ARGUMENT, "there is no such provider")
        return msgspec.json.encode(found)

    async def _read_prices(self, request: bytes) -> bytes:
        del request
        return msgspec.json.encode(self._prices())

    async def _expect_capture(self, request: bytes) -> bytes:
        try:
            request_id, key = msgspec.json.decode(request, type=tuple[str, str])
        except msgspec.MsgspecError as error:
            raise CallRefused(Status.INVALID_ARGUMENT, "not a request id and a key") from error
        if self._captures is not None:
            self._captures.expect(request_id, key)
        return b""

    async def _take_capture(self, request: bytes) -> bytes:
        found = self._captures.take(request.decode(errors="replace")) if self._captures is not None else None
        return msgspec.json.encode(found)

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
