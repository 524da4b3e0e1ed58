"""Why Envoy has ended a stream before its response was complete: the caller left, or the provider's connection broke.

ext_proc does not tell: in both cases Envoy only closes the stream. Envoy's access log does, by its response flags. For
each request with one of these flags, Envoy sends an entry to the worker that holds the exchange, over the connection of
its ext_proc streams and before it closes the stream (envoy_config/listener.py renders this).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from google.protobuf.message import DecodeError

from ..model.envoy_names import EXCHANGE, NAMESPACE, WORKER
from ..pb.accesslog_pb2 import StreamAccessLogsMessage
from .rpc import CallRefused, Methods, RpcCall, Status, Streaming, whole

METHOD = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"

PATIENCE = 0.5
"""Seconds to wait for an entry. Usually it is here before the end of the stream; the entry of a proxy with another
configuration never comes."""

_MOST_KNOWN = 1024
"""Entries that nobody has asked for, because their exchange was complete for the agent."""


class StreamEnds:
    """The service that takes the entries."""

    def __init__(self, patience: float = PATIENCE) -> None:
        """`patience`: 0 where no proxy sends entries."""
        self.methods: Methods = {METHOD: Streaming(self._take)}
        self._patience = patience
        self._broken: dict[str, bool] = {}
        self._waiting: dict[str, asyncio.Future[bool]] = {}
        self._reading: set[asyncio.Future[None]] = set()
        self._stopped = False

    def stop(self) -> None:
        """Ends Envoy's streams, which would delay the stop of the server: each lives as long as its connection."""
        self._stopped = True
        for each in self._reading:
            each.cancel()

    async def is_broken(self, exchange: str) -> bool:
        """Whether the response of this exchange, which has ended, was broken off by the provider's connection."""
        known = self._broken.pop(exchange, None)
        if known is not None or not self._patience:
            return bool(known)
        waiting: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[exchange] = waiting
        try:
            async with asyncio.timeout(self._patience):
                broken = await waiting
        except TimeoutError:
            broken = False
        finally:
            del self._waiting[exchange]
        return broken

    def note(self, exchange: str, *, broken: bool) -> None:
        waiting = self._waiting.get(exchange)
        if waiting is not None:
            if not waiting.done():
                waiting.set_result(broken)
            return
        self._broken[exchange] = broken
        if len(self._broken) > _MOST_KNOWN:
            del self._broken[next(iter(self._broken))]

    async def _take(self, call: RpcCall) -> None:
        wanted = call.metadata.get(WORKER)
        if wanted is not None and call.local is not None and wanted != call.local:
            # Envoy opened the stream while the other worker was not healthy. Refused, it opens one for the next entry.
            raise CallRefused(Status.UNAVAILABLE, f"the entries are for the worker at {wanted}")
        reading = asyncio.ensure_future(self._read(call))
        self._reading.add(reading)
        try:
            await reading
        except asyncio.CancelledError:
            if not self._stopped:
                raise
        finally:
            self._reading.discard(reading)
        await call.write(b"")  # the only response

    async def _read(self, call: RpcCall) -> None:
        while not self._stopped and (message := await call.read()) is not None:
            for exchange, broken in _entries(whole(message)):
                self.note(exchange, broken=broken)


def _entries(message: bytes) -> Iterator[tuple[str, bool]]:
    """The exchange of each entry, and whether the provider's connection broke."""
    try:
        found = StreamAccessLogsMessage.FromString(message)
    except DecodeError as exc:
        raise CallRefused(Status.INVALID_ARGUMENT, "this is not a StreamAccessLogsMessage") from exc
    for entry in found.http_logs.log_entry:
        common = entry.common_properties
        exchange = common.metadata.filter_metadata[NAMESPACE].fields[EXCHANGE].string_value
        flags = common.response_flags
        if exchange:
            yield (
                exchange,
                flags.upstream_remote_reset or flags.upstream_connection_termination or flags.upstream_protocol_error,
            )
