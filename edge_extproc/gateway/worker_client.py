"""The supervisor's client of a worker: health, metrics, purge and reload (server/introspect.py)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import msgspec
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from ..errors import BadRequest, Unavailable
from ..model.captured import CapturedRequest
from ..model.limit_use import LimitUse
from ..model.provider_probe import ProviderPrice, ProviderProbe
from ..server.health import SERVICE as HEALTH
from ..server.http2.client import CallFailed, UnaryClient
from ..server.introspect import EXPECT, LIMITS, METRICS, PRICES, PROBE, PURGE, RELOAD, STORES, TAKE
from ..server.rpc import Status
from ..server.transport import MutualTls

# A scrape does not include a worker that takes longer.
_SCRAPE_SECONDS = 2.0
# A busy worker answers late. One that takes longer than this may hang.
_LATE_SECONDS = 10.0
# A purge searches the whole shared store.
_PURGE_SECONDS = 60.0
# Longer than a probe waits for a provider.
_PROBE_SECONDS = 20.0
# A worker reads ten thousand keys in one second. One that takes longer gets another reload.
_RELOAD_SECONDS = 10.0
# Seconds between two attempts to reach a worker that starts.
_POLL_INTERVAL = 0.01


class WorkerClient:
    """The client of one worker. It outlives the worker's process: it connects again to the next one."""

    def __init__(self, address: str, tls: MutualTls | None = None) -> None:
        self._client = UnaryClient(address, tls)

    async def serving(self) -> bool:
        """Whether the worker reports SERVING within two seconds."""
        return await self._state(_SCRAPE_SECONDS) == health_pb2.HealthCheckResponse.SERVING

    async def answers(self) -> bool:
        """Whether the worker answers a health check within ten seconds, with any state."""
        return await self._state(_LATE_SECONDS) is not None

    async def _state(self, seconds: float) -> int | None:
        request = health_pb2.HealthCheckRequest().SerializeToString()
        try:
            answer = health_pb2.HealthCheckResponse.FromString(
                await self._client.call(HEALTH + "/Check", request, seconds)
            )
        except (CallFailed, DecodeError):
            return None
        state: int = answer.status
        return state

    async def until_serving(self) -> None:
        """Waits until the worker reports SERVING, without a time limit."""
        serving = await self.serving()
        while not serving:
            await asyncio.sleep(_POLL_INTERVAL)
            serving = await self.serving()

    async def metrics(self) -> bytes | None:
        """The snapshot of the worker's metrics. None: it does not answer."""
        try:
            return await self._client.call(METRICS, b"", _SCRAPE_SECONDS)
        except CallFailed:
            return None

    async def stores(self) -> Mapping[str, str | None]:
        """For each store that the worker uses, why it cannot be used, or None. Empty: the worker does not answer."""
        try:
            answer = await self._client.call(STORES, b"", _SCRAPE_SECONDS)
            return msgspec.json.decode(answer, type=dict[str, str | None])
        except CallFailed:
            return {}

    async def limits(self) -> list[LimitUse]:
        """How much of each limit is used, with what this worker has reserved. Empty: the worker does not answer."""
        try:
            return msgspec.json.decode(await self._client.call(LIMITS, b"", _SCRAPE_SECONDS), type=list[LimitUse])
        except CallFailed:
            return []

    async def probe(self, provider: str) -> ProviderProbe | None:
        """Sends one request to a provider. None: the worker does not answer, or has no such provider."""
        try:
            answer = await self._client.call(PROBE, provider.encode(), _PROBE_SECONDS)
        except CallFailed:
            return None
        return msgspec.json.decode(answer, type=ProviderProbe)

    async def prices(self) -> list[ProviderPrice]:
        """Those of the configured candidates. Empty: the worker does not answer."""
        try:
            answer = await self._client.call(PRICES, b"", _SCRAPE_SECONDS)
        except CallFailed:
            return []
        return msgspec.json.decode(answer, type=list[ProviderPrice])

    async def expect_capture(self, request_id: str, key: str) -> None:
        """Announces a request whose bytes the worker keeps. A worker that does not answer keeps nothing."""
        with contextlib.suppress(CallFailed):
            await self._client.call(EXPECT, msgspec.json.encode((request_id, key)), _SCRAPE_SECONDS)

    async def take_capture(self, request_id: str) -> CapturedRequest | None:
        """None: this worker has none of this request."""
        try:
            answer = await self._client.call(TAKE, request_id.encode(), _SCRAPE_SECONDS)
        except CallFailed:
            return None
        return msgspec.json.decode(answer, type=CapturedRequest | None)

    async def purge_cache(self, selection: bytes) -> int:
        """Removes cached replies. Returns how many were removed. `selection` is as cache/purge.py reads it. Raises
        BadRequest for an invalid selection, and Unavailable if the worker or its store does not answer."""
        try:
            return int(await self._client.call(PURGE, selection, _PURGE_SECONDS))
        except CallFailed as error:
            details = error.details or "the worker did not answer"
            if error.status == Status.INVALID_ARGUMENT:
                raise BadRequest(details) from error
            raise Unavailable(details) from error

    async def reload(self) -> bool:
        """Makes the worker read the configuration and the managed state. False: it could not apply them. A worker that
        does not serve reads them at its start, so the result is True."""
        try:
            await self._client.call(RELOAD, b"", _RELOAD_SECONDS)
        except CallFailed as error:
            return error.status == Status.UNAVAILABLE
        return True

    async def close(self) -> None:
        await self._client.close()
