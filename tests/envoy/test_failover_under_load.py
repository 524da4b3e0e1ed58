"""Failover under load: two Envoy workers, four of ours, and a first provider that has a bad day."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fault_player
import gateway as gateways
import httpx2 as httpx
import pytest
from running_envoy import admin_stats
from thoroughness import is_long

pytestmark = pytest.mark.envoy

HELLO = [{"role": "user", "content": "Hello"}]
# What each fault is tried with: streams, for a reply that broke off midway is guarded only where config wants it.
FAULTS = ("503", "429", "reset-before-headers", "reset-after-headers", "empty-body", "error-first")
MODELS = """
"first.*": [{provider: faulty}, {provider: healthy, model: a.good}]
"hedged.*": {candidates: [{provider: faulty}, {provider: healthy, model: a.good}], hedge: {at_least: 200ms}}
"slow.*": [{provider: faulty}]
good: [{provider: healthy, model: a.good}]
"""
MORE = """
retries: {attempts: 3, back_off: {base: 5ms, max: 50ms}}
routing: {first_token: FIRST_TOKEN, breaker: {enabled: false}}
envoy: {concurrency: 2}
"""
# What a busy machine never takes; and for the fault that only this time ends, what 100 healthy streams do not take.
NEVER, SHORT = "600s", "15s"


@pytest.fixture(scope="module")
def loaded() -> Iterator[tuple[gateways.RunningGateway, fault_player.FaultPlayer]]:
    with with_time_to_first_token(NEVER) as found:
        yield found


@contextmanager
def with_time_to_first_token(longest: str) -> Iterator[tuple[gateways.RunningGateway, fault_player.FaultPlayer]]:
    with fault_player.fault_player() as player:
        here = f"http://127.0.0.1:{player.port}/v1"
        more = MORE.replace("FIRST_TOKEN", longest)
        text = gateways.config(here.removesuffix("/v1"), more=more, models=MODELS, workers=4)
        providers = "".join(f"  {n}: {{kind: openai, base_url: '{here}', api_key: x}}\n" for n in ("faulty", "healthy"))
        with gateways.RunningGateway(text.replace("providers:\n", "providers:\n" + providers, 1)) as gateway:
            yield gateway, player


def await_all_workers(gateway: gateways.RunningGateway) -> None:
    """Each test begins when Envoy has all four: one kills a worker, and those that come and go take requests along."""
    gateways.until(lambda: 4 == stats(gateway, "cluster.agent.")["cluster.agent.membership_healthy"], 30)


def client(gateway: gateways.RunningGateway) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    headers = {"authorization": f"Bearer {gateways.KEY}"}
    return httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=60, limits=limits)


async def ask(http: httpx.AsyncClient, model: str) -> str:
    """What came: "whole", or what it was instead."""
    asked = {"model": model, "messages": HELLO, "stream": True}
    try:
        reply = await http.post("/v1/chat/completions", json=asked)
    except httpx.HTTPError as error:
        return type(error).__name__
    is_whole = reply.status_code == 200 and b"there" in reply.content and b"[DONE]" in reply.content
    return "whole" if is_whole else f"{reply.status_code} {reply.text[:200]}"


@pytest.mark.parametrize("fault", FAULTS)
async def test_no_failure_reaches_the_caller_while_a_healthy_candidate_remains(loaded, fault):
    await each_call_is_answered(*loaded, fault)


async def test_no_slow_first_token_reaches_the_caller_while_a_healthy_candidate_remains():
    with with_time_to_first_token(SHORT) as slow:
        await each_call_is_answered(*slow, "slow-first-token")


async def each_call_is_answered(gateway: gateways.RunningGateway, player: fault_player.FaultPlayer, fault: str) -> None:
    await_all_workers(gateway)
    many = (20, 100, 300) if is_long() else (20, 100) if fault in ("503", "error-first") else (40,)
    before = retries(gateway)
    player.asked.clear()
    async with client(gateway) as http:
        for n in many:
            came = Counter(await asyncio.gather(*(ask(http, f"first.{fault}.stream") for _ in range(n))))
            assert {"whole": n} == dict(came)

    # Every call was sent to the first provider once, and tried again once: at the second.
    assert (sum(many), sum(many)) == (player.asked[f"first.{fault}.stream"], player.asked["a.good"])
    assert Counter(upstream_rq_retry=sum(many)) == retries(gateway) - before


def retries(gateway: gateways.RunningGateway) -> Counter[str]:
    """What Envoy counted of its providers: retries, and what it had no room for."""
    counted: Counter[str] = Counter()
    for name, value in stats(gateway, "cluster.provider_").items():
        last = name.rpartition(".")[2]
        if last in {"upstream_rq_retry", "upstream_rq_retry_overflow", "upstream_rq_pending_overflow"}:
            counted[last] += value
    return counted


def stats(gateway: gateways.RunningGateway, prefix: str) -> dict[str, int]:
    return admin_stats(gateway.directory / ".edge" / "run" / "envoy-admin.sock", prefix)


async def test_a_hedged_call_is_answered_by_whoever_is_first_and_the_other_is_let_go(loaded):
    gateway, player = loaded
    await_all_workers(gateway)
    player.asked.clear()
    async with client(gateway) as http:
        came = Counter(await asyncio.gather(*(ask(http, "hedged.slow-first-token.stream") for _ in range(20))))

        assert {"whole": 20} == dict(came)
        assert (20, 20) == (player.asked["hedged.slow-first-token.stream"], player.asked["a.good"])
        await gateways_until(lambda: 0 == stats(gateway, "cluster.provider_faulty.")[ACTIVE])
        # Where the first is quick enough, nobody else is asked.
        player.asked.clear()
        assert "whole" == await ask(http, "hedged.good.stream")
        assert 0 == player.asked.get("a.good", 0)


ACTIVE = "cluster.provider_faulty.upstream_rq_active"


async def gateways_until(condition) -> None:
    await asyncio.to_thread(gateways.until, condition)


def is_gone(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


async def test_a_worker_that_dies_takes_its_own_requests_and_no_others(loaded):
    gateway, player = loaded
    await_all_workers(gateway)
    player.asked.clear()
    async with client(gateway) as http:
        under_way = [asyncio.create_task(ask(http, "slow.stall-midway.stream")) for _ in range(32)]
        await gateways_until(lambda: 32 == player.asked.get("slow.stall-midway.stream"))
        worker = gateway.processes()["worker 0"]
        os.kill(worker, signal.SIGKILL)
        await gateways_until(lambda: is_gone(worker))
        after = Counter(await asyncio.gather(*(ask(http, "good") for _ in range(60))))
        await gateways_until(lambda: any(task.done() for task in under_way))
        for task in under_way:
            task.cancel()
        ended = await asyncio.gather(*under_way, return_exceptions=True)

    # What was on its way to it in that very moment is its own, too.
    assert after["whole"] >= 58
    assert {"policy_unavailable"} >= {each.partition('"code":"')[2].partition('"')[0] for each in after} - {""}
    broken = [each for each in ended if isinstance(each, str)]
    assert 0 < len(broken) < 32
    assert all(each == "RemoteProtocolError" or each.startswith("503 ") for each in broken)
