"""Purging a worker's cache over its own socket."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edge_extproc.cache.purge import read_selection
from edge_extproc.errors import BadRequest, Unavailable
from edge_extproc.gateway.worker_client import WorkerClient
from edge_extproc.server.introspect import Introspection
from edge_extproc.server.serve import serve


async def served(socket: Path, wanted: bytes, *, cache: bool = True) -> int:
    async def purge(body: bytes) -> int:
        if read_selection(body).model == "far":
            raise Unavailable("the cache's store did not purge all: unreachable; try again")
        return 7

    stop, ready = asyncio.Event(), asyncio.Event()
    handlers = [Introspection(lambda: b"", purge if cache else None)]
    serving = asyncio.create_task(serve(f"unix:{socket}", handlers, stop, 1.0, on_ready=ready.set))
    await ready.wait()
    client = WorkerClient(f"unix:{socket}")
    try:
        return await client.purge_cache(wanted)
    finally:
        await client.close()
        stop.set()
        await serving


async def test_how_many_went_is_told(tmp_path):
    assert 7 == await served(tmp_path / "s", b'{"tenant":"acme"}')
    assert 0 == await served(tmp_path / "s", b'{"tenant":"acme"}', cache=False)


async def test_what_went_wrong_is_told(tmp_path):
    with pytest.raises(BadRequest, match="give any of tenant"):
        await served(tmp_path / "s", b"{}")
    with pytest.raises(Unavailable, match="did not purge all"):
        await served(tmp_path / "s", b'{"model":"far"}')


async def test_a_worker_that_is_not_there_is_told(tmp_path):
    client = WorkerClient(f"unix:{tmp_path / 'nobody'}")
    try:
        with pytest.raises(Unavailable):
            await client.purge_cache(b'{"all":true}')
    finally:
        await client.close()
