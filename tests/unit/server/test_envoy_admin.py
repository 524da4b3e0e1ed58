"""What Envoy's admin interface says, over its socket."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edge_extproc.server.envoy_admin import EnvoyAdmin

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\nA\r\nefghijklmn\r\n0\r\n\r\n"


@asynccontextmanager
async def answering(answer: bytes, asked: list[bytes]) -> AsyncIterator[EnvoyAdmin]:
    with tempfile.TemporaryDirectory(prefix="edge-") as directory:
        path = Path(directory) / "admin.sock"

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            await writer.drain()
            writer.close()

        async with await asyncio.start_unix_server(serve, str(path)):
            yield EnvoyAdmin(path)


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nenvoy_x 1\n", b"envoy_x 1\n"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\nA\r\nefghijklmn\r\n0\r\n\r\n",
            b"abcdefghijklmn",
        ),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\nnot yet", None),
        (b"", None),
    ],
)
async def test_the_body_of_a_good_answer_is_given(answer: bytes, body: bytes | None) -> None:
    asked: list[bytes] = []
    async with answering(answer, asked) as envoy:
        assert await envoy.metrics() == body
        assert await envoy.ready() == (body is not None)

    assert asked[0].startswith(b"GET /stats/prometheus?usedonly&filter=%5E%28cluster")
    assert asked[1].startswith(b"GET /ready HTTP/1.1\r\n")


async def test_where_nobody_listens_there_is_nothing() -> None:
    assert await EnvoyAdmin(Path("/nowhere/admin.sock")).metrics() is None
