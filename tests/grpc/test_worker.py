"""One worker's server: its address, its health, its end."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ports import free_port

from edge_extproc.errors import StartError
from edge_extproc.server.grpcio_transport import OPTIONS
from edge_extproc.server.serve import run, serve

PATIENCE = 30
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


Serve: TypeAlias = "Callable[..., AbstractAsyncContextManager[asyncio.Event]]"


@pytest.fixture(params=["http2", "grpcio"])
def served(request: pytest.FixtureRequest) -> Serve:
    return partial(_served, request.param)


@asynccontextmanager
async def _served(
    transport: Literal["http2", "grpcio"], address: str, *, group: bool = False
) -> AsyncIterator[asyncio.Event]:
    stop, ready = asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(
        serve(address, [], stop, PATIENCE, on_ready=ready.set, transport=transport, group=group)
    )
    waiting = asyncio.create_task(ready.wait())
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if not ready.is_set():
            waiting.cancel()
            await serving
        yield stop
    finally:
        stop.set()
        await asyncio.wait({serving})


async def health(address: str) -> int:
    async with aio.insecure_channel(address) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
    return answer.status


async def test_a_socket_is_for_its_owner_alone_and_goes_with_the_worker(tmp_path: Path, served: Serve) -> None:
    path = tmp_path / "worker.sock"
    async with served(f"unix:{path}"):
        mode = path.stat().st_mode

        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
        assert await health(f"unix:{path}") == SERVING
    assert not path.exists()


async def test_a_socket_is_for_the_owners_group_where_that_is_wanted(tmp_path: Path, served: Serve) -> None:
    path = tmp_path / "worker.sock"
    async with served(f"unix:{path}", group=True):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


async def test_other_files_keep_the_modes_of_their_owner(tmp_path: Path, served: Serve) -> None:
    def umask() -> int:
        current = os.umask(0)
        os.umask(current)
        return current

    before = umask()
    async with served(f"unix:{tmp_path / 'worker.sock'}"):
        assert umask() == before


async def test_a_socket_that_a_dead_worker_left_is_replaced(tmp_path: Path, served: Serve) -> None:
    path = tmp_path / "worker.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with served(f"unix:{path}"):
        assert await health(f"unix:{path}") == SERVING


async def test_a_living_worker_is_not_pushed_aside(tmp_path: Path, served: Serve) -> None:
    path = tmp_path / "worker.sock"
    async with served(f"unix:{path}"):
        with pytest.raises(StartError, match="listens at"):
            async with served(f"unix:{path}"):
                pass

        assert await health(f"unix:{path}") == SERVING


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path, served: Serve) -> None:
    path = tmp_path / "worker.sock"
    path.write_text("somebody's")
    with pytest.raises(StartError, match="not a socket"):
        async with served(f"unix:{path}"):
            pass

    assert path.read_text() == "somebody's"


async def test_a_path_too_long_for_a_socket_is_named(tmp_path: Path, served: Serve) -> None:
    with pytest.raises(StartError, match="107 bytes at most"):
        async with served(f"unix:{tmp_path / ('x' * 120)}"):
            pass


async def test_a_directory_that_is_missing_is_told(tmp_path: Path, served: Serve) -> None:
    with pytest.raises(StartError, match="cannot listen"):
        async with served(f"unix:{tmp_path / 'missing' / 'worker.sock'}"):
            pass


async def test_a_taken_port_is_told(served: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StartError, match=f"cannot listen at {address}"):
            async with served(address):
                pass


async def test_a_worker_may_listen_at_a_port(served: Serve) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with served(address):
        assert await health(address) == SERVING


async def test_health_tells_that_the_worker_stops_while_streams_end(tmp_path: Path, served: Serve) -> None:
    address = f"unix:{tmp_path / 'worker.sock'}"
    async with served(address) as stop, aio.insecure_channel(address, options=OPTIONS) as channel:
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
        first = await watching.read()
        stop.set()
        second = await watching.read()
        watching.cancel()

    assert (first.status, second.status) == (SERVING, NOT_SERVING)


async def test_a_cancelled_worker_cleans_up_too(tmp_path: Path) -> None:
    path = tmp_path / "worker.sock"
    ready = asyncio.Event()
    serving = asyncio.create_task(serve(f"unix:{path}", [], asyncio.Event(), 0.0, on_ready=ready.set))
    await ready.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving

    assert not path.exists()


def test_a_worker_runs_on_uvloop() -> None:
    async def loop() -> str:
        return type(asyncio.get_running_loop()).__module__

    pytest.importorskip("uvloop", reason="uvloop is not made for this system")

    assert run(loop()) == "uvloop"
