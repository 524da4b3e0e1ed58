"""The address at which a peer has reached the server, as Envoy writes it: its host is found by this text."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path

import grpc.aio
import pytest

from edge_extproc.gateway.supervisor import free_port
from edge_extproc.server.http2.transport import Http2Server
from edge_extproc.server.rpc import RpcCall, Streaming

METHOD = "/test/Address"


class Tells:
    """A service that answers with its address."""

    def __init__(self) -> None:
        self.methods = {METHOD: Streaming(self._tell)}

    async def _tell(self, call: RpcCall) -> None:
        await call.write((call.local or "").encode())


async def told(address: str, reached_at: str) -> str:
    server = Http2Server([Tells()])
    server.bind(address, None)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(reached_at) as channel:
            (answer,) = [each async for each in channel.unary_stream(METHOD)(b"")]
    finally:
        await server.stop(0)
    return answer.decode()


async def test_a_socket_is_told_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "worker.sock"

    assert str(path) == await told(f"unix:{path}", f"unix:{path}")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::ffff:127.0.0.1]"])
async def test_ipv4_is_told_as_ipv4_by_an_ipv6_listener_too(host: str) -> None:
    port = free_port("127.0.0.1")

    assert f"127.0.0.1:{port}" == await told(f"{host}:{port}", f"ipv4:127.0.0.1:{port}")


async def test_ipv6_is_told_in_brackets() -> None:
    port = free_port("::1")

    assert f"[::1]:{port}" == await told(f"[::1]:{port}", f"ipv6:[::1]:{port}")


async def test_an_address_in_use_is_refused_and_its_socket_closed() -> None:
    first, second = Http2Server([]), Http2Server([])
    address = f"127.0.0.1:{free_port('127.0.0.1')}"
    first.bind(address, None)
    await first.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(OSError, match="in use"):
                second.bind(address, None)
            gc.collect()  # a socket that was left open warns
    finally:
        await first.stop(0)
