"""A response that the provider's connection breaks off is the provider's failure; one that its caller leaves is not."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

import gateway as gateways
import h2.config
import h2.connection
import h2.events
import httpx2 as httpx
import pytest
from fault_player import OPENAI
from two_levels import SSE_HEAD, Provider, Seen, chunk

pytestmark = pytest.mark.envoy

WORKERS = 2


async def http1(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """Headers, or headers and a part of the body, and then the end of the connection; `stays` waits instead."""
    stream, how = b'"stream":true' in seen.body, seen.body
    if stream:
        writer.write(SSE_HEAD)
        if b"midway" in how or b"stays" in how:
            writer.write(chunk(b"".join(OPENAI.events[:2])))
    else:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n"
        writer.write(head + (OPENAI.reply[:20] if b"midway" in how else b""))
    await writer.drain()
    await asyncio.sleep(30 if b"stays" in how else 0.2)
    writer.transport.abort()


async def http2(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The same by RST_STREAM, midway in a response."""
    bodies: dict[int, bytes] = {}
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    connection.initiate_connection()
    writer.write(connection.data_to_send())
    with contextlib.suppress(ConnectionError, asyncio.CancelledError):
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                if isinstance(event, h2.events.StreamEnded):
                    stream = b'"stream":true' in bodies[event.stream_id]
                    kind = "text/event-stream" if stream else "application/json"
                    connection.send_headers(event.stream_id, [(":status", "200"), ("content-type", kind)])
                    part = b"".join(OPENAI.events[:2]) if stream else OPENAI.reply[:20]
                    connection.send_data(event.stream_id, part)
                    writer.write(connection.data_to_send())
                    await writer.drain()
                    await asyncio.sleep(0.2)
                    connection.reset_stream(event.stream_id, 2)
            writer.write(connection.data_to_send())
            await writer.drain()


class Http2Provider(Provider):
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        with contextlib.closing(writer):
            await http2(reader, writer)


@pytest.fixture(scope="module")
def running() -> Iterator[gateways.RunningGateway]:
    release = threading.Event()
    with Provider(http1).in_thread(release) as one, Http2Provider(http1).in_thread(release) as two:
        text = gateways.config(
            f"http://127.0.0.1:{one}",
            more="retries: {attempts: 1}\nrouting: {breaker: {failures: 1000}}",
            models='"h2.*": {candidates: [{provider: second}], guard: "off"}\n'
            '"h1.*": {candidates: [{provider: openai}], guard: "off"}',
            workers=WORKERS,
        )
        second = (
            f"  second: {{kind: openai, base_url: 'http://127.0.0.1:{two}/v1', api_key: x, pool: {{http2: true}}}}\n"
        )
        with gateways.RunningGateway(text.replace("providers:\n", "providers:\n" + second, 1)) as found:
            yield found


@pytest.mark.parametrize(
    ("model", "stream", "outcome"),
    [
        ("h1.midway", True, "upstream_error"),
        ("h1.headers", True, "upstream_error"),
        ("h1.midway", False, "upstream_error"),
        ("h1.headers", False, "upstream_error"),
        ("h2.midway", True, "upstream_error"),
        ("h2.midway", False, "upstream_error"),
        ("h1.stays", True, "caller_left"),
    ],
)
def test_who_has_broken_a_response_off(
    running: gateways.RunningGateway, model: str, stream: bool, outcome: str
) -> None:
    before = len(running.access_lines())
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "stream": stream}
    headers = {"authorization": f"Bearer {gateways.KEY}"}
    for _number in range(2 * WORKERS):
        with (
            contextlib.suppress(httpx.RemoteProtocolError),
            httpx.stream("POST", f"{running.url}/v1/chat/completions", json=body, headers=headers, timeout=30) as reply,
        ):
            for _ in reply.iter_raw():
                if model == "h1.stays":
                    break
    lines = running.settled(before + 2 * WORKERS)[before:]

    assert {outcome} == {line["outcome"] for line in lines}
