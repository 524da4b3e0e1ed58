"""The supervisor's side of `introspect`, by grpcio, which a worker need not load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
import msgspec
from grpc import aio
from grpc_health.v1 import health_pb2

from ..errors import BadRequest, Unavailable
from ..server.health import SERVICE as HEALTH
from ..server.introspect import METRICS, PURGE, RELOAD, STORES
from ..server.transport import MutualTls

# A worker that is busy answers late; one that does not answer in this time is left out of a scrape.
_SCRAPE_SECONDS = 2.0
# One that does not answer in this time either may hang.
_LATE_SECONDS = 10.0
# A store that many share is searched for what fits.
_PURGE_SECONDS = 60.0
# Ten thousand keys are read in one; a worker that takes longer is told so again.
_RELOAD_SECONDS = 10.0


class WorkerClient:
    """The supervisor's line to one worker. It outlives the worker: gRPC connects again to the next one."""

    def __init__(self, address: str, tls: MutualTls | None = None) -> None:
        # A worker that is starting is asked often; gRPC's own back-off would wait a second and more between tries.
        options = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 500))
        self._channel = aio.insecure_channel(address, options=options) if tls is None else tls.channel(address, options)
        encode, decode = health_pb2.HealthCheckRequest.SerializeToString, health_pb2.HealthCheckResponse.FromString
        self._check: Any = self._channel.unary_unary(HEALTH + "/Check", encode, decode)
        self._watch: Any = self._channel.unary_stream(HEALTH + "/Watch", encode, decode)
        self._metrics: Any = self._channel.unary_unary(METRICS)
        self._purge: Any = self._channel.unary_unary(PURGE)
        self._reload: Any = self._channel.unary_unary(RELOAD)
        self._stores: Any = self._channel.unary_unary(STORES)

    async def serving(self) -> bool:
        """Whether it says now that it serves."""
        return await self._state(_SCRAPE_SECONDS) == health_pb2.HealthCheckResponse.SERVING

    async def answers(self) -> bool:
        """Whether it says anything at all, if late."""
        return await self._state(_LATE_SECONDS) is not None

    async def _state(self, seconds: float) -> int | None:
        try:
            answer = await self._check(health_pb2.HealthCheckRequest(), timeout=seconds)
        except aio.AioRpcError:
            return None
        state: int = answer.status
        return state

    async def until_serving(self) -> None:
        """Waits for as long as it takes to connect, and then for the worker to say so."""
        watching = self._watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
        try:
            async for answer in watching:
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
        finally:
            # A stream that stays open would hold up the worker's stop for all of its grace.
            watching.cancel()

    async def metrics(self) -> bytes | None:
        """Its snapshot, or None where it does not answer."""
        try:
            answer: bytes = await self._metrics(b"", timeout=_SCRAPE_SECONDS)
        except aio.AioRpcError:
            return None
        return answer

    async def stores(self) -> Mapping[str, str | None]:
        """Of each store that it uses, why it cannot be used, or None. Nothing where the worker does not answer."""
        try:
            return msgspec.json.decode(await self._stores(b"", timeout=_SCRAPE_SECONDS), type=dict[str, str | None])
        except aio.AioRpcError:
            return {}

    async def purge_cache(self, wanted: bytes) -> int:
        """How many replies went. Raises BadRequest where `wanted` makes no sense, Unavailable where the worker or the
        store behind it does not say."""
        try:
            return int(await self._purge(wanted, timeout=_PURGE_SECONDS))
        except aio.AioRpcError as error:
            told = error.details() or "the worker did not answer"
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise BadRequest(told) from error
            raise Unavailable(told) from error

    async def reload(self) -> bool:
        """Whether what is managed is in force there, or there is nobody whom it could be wrong for: a worker that does
        not serve reads it when it starts."""
        try:
            await self._reload(b"", timeout=_RELOAD_SECONDS)
        except aio.AioRpcError as error:
            return bool(error.code() == grpc.StatusCode.UNAVAILABLE)
        return True

    async def close(self) -> None:
        await self._channel.close()
