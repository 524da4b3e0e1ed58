"""The rehearsal provider and clients for it, for every ring of tests."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from edge_extproc.rehearsal import Rehearsal

KEY = "rehearsal-key"


@asynccontextmanager
async def rehearsing(*, record: bool = True) -> AsyncIterator[Rehearsal]:
    """A provider in this event loop, on a free port of the loopback."""
    provider = Rehearsal(record=record)
    await provider.start()
    try:
        yield provider
    finally:
        await provider.stop()


async def until(condition: Callable[[], bool], *, patience: float = 10.0) -> None:
    """Returns as soon as the condition holds."""
    async with asyncio.timeout(patience):
        for _ in itertools.count():
            if condition():
                return
            await asyncio.sleep(0.001)


@contextmanager
def rehearsal_process(*options: str) -> Iterator[str]:
    """A provider in a process of its own; its URL without `/v1`."""
    command = [sys.executable, "-m", "edge_extproc.rehearsal", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            assert ready.startswith("rehearsal provider ready on http://"), ready
            yield ready.split()[-1]
        finally:
            process.terminate()
            process.wait(timeout=10)
    assert process.returncode == 0


@asynccontextmanager
async def openai_client(url: str, key: str = KEY) -> AsyncIterator[AsyncOpenAI]:
    """The official client, which tries once; `url` is without `/v1`."""
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=20) as client:
        yield client


@asynccontextmanager
async def anthropic_client(url: str, key: str = KEY) -> AsyncIterator[AsyncAnthropic]:
    """The official client, which tries once; `url` is without `/v1`."""
    async with AsyncAnthropic(base_url=url, api_key=key, max_retries=0, timeout=20) as client:
        yield client
