"""A provider's pool in use: bounded, used again, and let go when idle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import httpx2 as httpx
import pytest
from gateway import KEY, RunningGateway, config, until
from running_envoy import admin_stats

pytestmark = pytest.mark.envoy

MODELS = """
pooled: [{provider: pooled, model: "rehearsal(delay=50ms)"}]
"""


@pytest.fixture(scope="module")
def pooled(rehearsal_url: str) -> Iterator[RunningGateway]:
    row = {"kind": "openai", "base_url": f"{rehearsal_url}/v1", "api_key": "x"}
    row |= {"pool": {"max_connections": 2, "idle": "1s"}}
    text = config(rehearsal_url, models=MODELS, more="envoy: {concurrency: 1}")
    with RunningGateway(text.replace("providers:\n", f"providers:\n  pooled: {json.dumps(row)}\n", 1)) as gateway:
        yield gateway


def _connections(gateway: RunningGateway, what: str) -> int:
    prefix = "cluster.provider_pooled.upstream_"
    return admin_stats(gateway.directory / ".edge" / "run" / "envoy-admin.sock", prefix)[prefix + what]


async def _ask(http: httpx.AsyncClient) -> int:
    body = {"model": "pooled", "messages": [{"role": "user", "content": "hello"}]}
    return (await http.post("/v1/chat/completions", json=body)).status_code


async def test_a_pool_is_bounded_used_again_and_emptied_when_idle(pooled: RunningGateway) -> None:
    async with httpx.AsyncClient(base_url=pooled.url, headers={"authorization": f"Bearer {KEY}"}, timeout=30) as http:
        statuses = await asyncio.gather(*(_ask(http) for _ in range(20)))

    # Twenty at one time over two connections: the others wait, and none fails.
    assert [200] * 20 == statuses
    assert (20, 2) == (_connections(pooled, "rq_total"), _connections(pooled, "cx_total"))
    await asyncio.to_thread(until, lambda: 0 == _connections(pooled, "cx_active"))
    assert 2 == _connections(pooled, "cx_idle_timeout")
