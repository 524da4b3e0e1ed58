"""Envoy's reports of how exchanges have ended, and what a worker makes of them."""

from __future__ import annotations

import asyncio

import pytest

from edge_extproc.pb.accesslog_data_pb2 import HTTPAccessLogEntry
from edge_extproc.pb.accesslog_pb2 import StreamAccessLogsMessage
from edge_extproc.server.rpc import CallRefused, Message, RpcCall, Status, Streaming
from edge_extproc.server.stream_ends import METHOD, StreamEnds


class Envoy(RpcCall):
    """A stream of access log entries."""

    metadata: dict[str, str] = {}  # noqa: RUF012 - of the interface
    local: str | None = None
    cut = False

    def __init__(self, *messages: bytes | None) -> None:
        self.messages = asyncio.Queue[bytes | None]()
        for each in messages:
            self.messages.put_nowait(each)
        self.written: list[bytes] = []

    async def read(self) -> Message | None:
        return await self.messages.get()

    async def write(self, message: bytes) -> None:
        self.written.append(message)


def entry(exchange: str, *flags: str) -> bytes:
    logged = HTTPAccessLogEntry()
    logged.common_properties.metadata.filter_metadata["edge"].update({"exchange": exchange})
    for flag in flags:
        setattr(logged.common_properties.response_flags, flag, True)
    message = StreamAccessLogsMessage()
    message.http_logs.log_entry.append(logged)
    return message.SerializeToString()


async def take(ends: StreamEnds, envoy: Envoy) -> None:
    method = ends.methods[METHOD]
    assert isinstance(method, Streaming)
    await method.run(envoy)


@pytest.mark.parametrize(
    ("flags", "broken"),
    [
        (("upstream_connection_termination",), True),
        (("upstream_remote_reset",), True),
        (("upstream_protocol_error",), True),
        ((), False),
    ],
)
async def test_a_flag_of_the_provider_says_that_the_response_broke(flags: tuple[str, ...], broken: bool) -> None:
    ends = StreamEnds()
    await take(ends, Envoy(entry("one", *flags), None))

    assert broken is await ends.is_broken("one")


async def test_a_stream_for_another_worker_is_refused() -> None:
    """Else Envoy would send the entries of that worker to this one as long as the connection lives."""
    ends, envoy = StreamEnds(), Envoy(entry("one", "upstream_remote_reset"), None)
    envoy.metadata, envoy.local = {"x-edge-worker": "/run/worker-0.sock"}, "/run/worker-1.sock"
    with pytest.raises(CallRefused) as refused:
        await take(ends, envoy)
    assert Status.UNAVAILABLE == refused.value.status

    envoy.local = "/run/worker-0.sock"
    await take(ends, envoy)
    assert await ends.is_broken("one")


async def test_a_report_that_comes_after_the_end_is_waited_for() -> None:
    ends = StreamEnds(patience=30)
    asked = asyncio.ensure_future(ends.is_broken("one"))
    await asyncio.sleep(0)
    await take(ends, Envoy(entry("one", "upstream_remote_reset"), None))

    assert await asked


async def test_without_a_report_the_caller_has_left() -> None:
    assert not await StreamEnds(patience=0).is_broken("one")
    assert not await StreamEnds(patience=0.001).is_broken("one")


async def test_a_stop_ends_the_streams_of_envoy() -> None:
    ends, envoy = StreamEnds(), Envoy()
    open_stream = asyncio.ensure_future(take(ends, envoy))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    ends.stop()
    await open_stream

    assert [b""] == envoy.written


async def test_reports_that_nobody_asks_for_are_bounded() -> None:
    ends = StreamEnds(patience=0)
    for n in range(1025):
        ends.note(str(n), broken=True)

    assert not await ends.is_broken("0")
    assert await ends.is_broken("1")


async def test_what_is_no_report_is_refused() -> None:
    with pytest.raises(CallRefused):
        await take(StreamEnds(), Envoy(b"\xff"))
