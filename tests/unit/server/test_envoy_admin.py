"""What Envoy's admin interface says, over its socket."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import config_kit
import pytest

from edge_extproc.gateway.envoy_admin import EnvoyAdminClient
from edge_extproc.gateway.launch import RunningGateway
from edge_extproc.gateway.supervisor import Supervisor

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\nA\r\nefghijklmn\r\n0\r\n\r\n"


@asynccontextmanager
async def answering(answer: bytes, asked: list[bytes]) -> AsyncIterator[EnvoyAdminClient]:
    with tempfile.TemporaryDirectory(prefix="edge-") as directory:
        path = Path(directory) / "admin.sock"

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            await writer.drain()
            writer.close()

        async with await asyncio.start_unix_server(serve, str(path)):
            yield EnvoyAdminClient(path)


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
    assert await EnvoyAdminClient(Path("/nowhere/admin.sock")).metrics() is None


@pytest.mark.parametrize(
    ("answer", "count"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nhttp.edge.downstream_rq_active: 3\n", 3),
        (b"HTTP/1.1 200 OK\r\n\r\n", 0),
        (b"HTTP/1.1 404 Not Found\r\n\r\n7", 0),
        (b"", 0),
    ],
)
async def test_the_number_of_active_requests(answer: bytes, count: int) -> None:
    asked: list[bytes] = []
    async with answering(answer, asked) as envoy:
        assert await envoy.active_requests() == count

    assert asked[0].startswith(b"GET /stats?filter=%5Ehttp.edge.downstream_rq_active%24 HTTP/1.1\r\n")


@pytest.mark.parametrize(("answer", "taken"), [(b"HTTP/1.1 200 OK\r\n\r\nOK\n", True), (b"", False)])
async def test_envoy_is_told_to_take_nothing_new(answer: bytes, taken: bool) -> None:
    asked: list[bytes] = []
    async with answering(answer, asked) as envoy:
        assert await envoy.drain() == taken

    assert [b"POST /healthcheck/fail", b"POST /drain_listeners"] == [each.partition(b" HTTP")[0] for each in asked]


async def test_what_an_envoy_beside_us_counts_is_shown_as_that_of_our_own() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\n\r\nenvoy_x 1\n", []) as envoy:
        at = f"envoy: {{admin: {{socket: {envoy._at}}}}}"
        beside = RunningGateway(config_kit.read(f"agent: {{workers: 1}}\n{at}\n"), Supervisor())
        found = await beside.envoy_metrics()
        await beside.close()
    alone = RunningGateway(config_kit.read("agent: {sockets: /nowhere}\n"), Supervisor())
    nobody = await alone.envoy_metrics()
    await alone.close()

    assert (b"envoy_x 1\n", None) == (found, nobody)
