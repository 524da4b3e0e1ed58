"""The supervisor's client of a worker: health, metrics, purge and reload (server/introspect.py).

It uses grpcio, which a worker does not import.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
import msgspec
from grpc import aio
from grpc_health.v1 import health_pb2

from ..errors import BadRequest, Unavailable
from ..model.limit_use import LimitUse
from ..server.health import SERVICE as HEALTH
from ..server.introspect import LIMITS, METRICS, PURGE, RELOAD, STORES
from ..server.transport import MutualTls

# A scrape does not include a worker that takes longer.
_SCRAPE_SECONDS = 2.0
# A busy worker answers late. One that takes longer than this may hang.
_LATE_SECONDS = 10.0
# A purge searches the whole shared store.
_PURGE_SECONDS = 60.0
# A worker reads ten thousand keys in one second. One that takes longer gets another reload.
_RELOAD_SECONDS = 10.0


class WorkerClient:
    """The client of one worker. It outlives the worker's process: gRPC connects again to the next one."""

    def __init__(self, address: str, tls: MutualTls | None = None) -> None:
        # By default, gRPC waits a second and more between two connection attempts to a worker that is starting. It
        # takes no less than 100 ms.
        options = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 100))
        self._channel = aio.insecure_channel(address, options=options) if tls is None else tls.channel(address, options)
        encode, decode = health_pb2.HealthCheckRequest.SerializeToString, health_pb2.HealthCheckResponse.FromString
        self._check: Any = self._channel.unary_unary(HEALTH + "/Check", encode, decode)
        self._watch: Any = self._channel.unary_stream(HEALTH + "/Watch", encode, decode)
        self._metrics: Any = self._channel.unary_unary(METRICS)
        self._purge: Any = self._channel.unary_unary(PURGE)
        self._reload: Any = self._channel.unary_unary(RELOAD)
        self._stores: Any = self._channel.unary_unary(STORES)
        self._limits: Any = self._channel.unary_unary(LIMITS)

    async def serving(self) -> bool:
        """Whether the worker reports SERVING within two seconds."""
        return await self._state(_SCRAPE_SECONDS) == health_pb2.HealthCheckResponse.SERVING

    async def answers(self) -> bool:
        """Whether the worker answers a health check within ten seconds, with any state."""
        return await self._state(_LATE_SECONDS) is not None

    async def _state(self, seconds: float) -> int | None:
        try:
            answer = await self._check(health_pb2.HealthCheckRequest(), timeout=seconds)
        except aio.AioRpcError:
            return None
        state: int = answer.status
        return state

    async def until_serving(self) -> None:
        """Waits until the worker reports SERVING, without a time limit."""
        watching = self._watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
        try:
            async for answer in watching:
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
        finally:
            # An open stream would delay the worker's stop by its whole grace period.
            watching.cancel()

    async def metrics(self) -> bytes | None:
        """The snapshot of the worker's metrics. None: it does not answer."""
        try:
            answer: bytes = await self._metrics(b"", timeout=_SCRAPE_SECONDS)
        except aio.AioRpcError:
            return None
        return answer

    async def stores(self) -> Mapping[str, str | None]:
        """For each store that the worker uses, why it cannot be used, or None. Empty: the worker does not answer."""
        try:
            return msgspec.json.decode(await self._stores(b"", timeout=_SCRAPE_SECONDS), type=dict[str, str | None])
        except aio.AioRpcError:
            return {}

    async def limits(self) -> list[LimitUse]:
        """How much of each limit is used, with what this worker has reserved. Empty: the worker does not answer."""
        try:
            return msgspec.json.decode(await self._limits(b"", timeout=_SCRAPE_SECONDS), type=list[LimitUse])
        except aio.AioRpcError:
            return []

    async def purge_cache(self, selection: bytes) -> int:
        """Removes cached replies. Returns how many were removed. `selection` is as cache/purge.py reads it. Raises
        BadRequest for an invalid selection, and Unavailable if the worker or its store does not answer."""
        try:
            return int(await self._purge(selection, timeout=_PURGE_SECONDS))
        except aio.AioRpcError as error:
            details = error.details() or "the worker did not answer"
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise BadRequest(details) from error
            raise Unavailable(details) from error

    async def reload(self) -> bool:
        """Makes the worker read the configuration and the managed state. False: it could not apply them. A worker that
        does not serve reads them at its start, so the result is True."""
        try:
            await self._reload(b"", timeout=_RELOAD_SECONDS)
        except aio.AioRpcError as error:
            return bool(error.code() == grpc.StatusCode.UNAVAILABLE)
        return True

    async def close(self) -> None:
        await self._channel.close()
