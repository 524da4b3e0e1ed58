"""All streams of an exchange reach the worker that holds it, even if Envoy finds another set of workers healthy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
from collections import Counter
from collections.abc import Iterator

import fault_player
import gateway as gateways
import httpx2 as httpx
import pytest
from running_envoy import admin_stats, ask_admin

pytestmark = pytest.mark.envoy

WORKERS = 3
CALLS = 24
HELLO = [{"role": "user", "content": "Hello"}]
MODELS = """
"guarded.*": [{provider: held}, {provider: healthy, model: a.good}]
"unguarded.*": {guard: "off", candidates: [{provider: held}, {provider: healthy, model: a.good}]}
good: [{provider: healthy, model: a.good}]
"""
MORE = """
retries: {attempts: 2, back_off: {base: 5ms, max: 50ms}}
routing: {first_token: 120s, breaker: {enabled: false}}
limits: {message_timeout: 30s}
"""
# Seconds for Envoy to find a worker unhealthy, on a busy machine.
PATIENCE = 120.0


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[gateways.RunningGateway, fault_player.FaultPlayer]]:
    with fault_player.fault_player() as player:
        here = f"http://127.0.0.1:{player.port}/v1"
        text = gateways.config(here.removesuffix("/v1"), more=MORE, models=MODELS, workers=WORKERS)
        text = text.replace("shutdown_grace: 2s", "shutdown_grace: 60s")
        providers = "".join(f"  {n}: {{kind: openai, base_url: '{here}', api_key: x}}\n" for n in ("held", "healthy"))
        with gateways.RunningGateway(text.replace("providers:\n", "providers:\n" + providers, 1)) as gateway:
            yield gateway, player


@pytest.fixture(autouse=True)
def all_workers(running: tuple[gateways.RunningGateway, fault_player.FaultPlayer]) -> None:
    gateway, player = running
    player.release.clear()
    player.asked.clear()
    # For Envoy, a worker that is started again is healthy from its last check on, also before it listens.
    gateways.until(lambda: all(listens(gateway, number) for number in range(WORKERS)), PATIENCE)
    until_healthy(gateway, WORKERS)


def listens(gateway: gateways.RunningGateway, worker: int) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(gateway.directory / ".edge" / "run" / f"worker-{worker}.sock"))
        except OSError:
            return False
    return True


def stats(gateway: gateways.RunningGateway) -> dict[str, int]:
    return admin_stats(gateway.directory / ".edge" / "run" / "envoy-admin.sock", "cluster.")


def busiest(gateway: gateways.RunningGateway) -> tuple[int, int]:
    """The number of the worker with the most open streams, and how many it has."""
    text = ask_admin(gateway.directory / ".edge" / "run" / "envoy-admin.sock", "/clusters?format=json")
    (agent,) = [each for each in json.loads(text)["cluster_statuses"] if each["name"].startswith("agent")]
    active = {
        int(re.findall(r"worker-(\d+)", host["address"]["pipe"]["path"])[-1]): sum(
            int(stat.get("value", 0)) for stat in host["stats"] if stat.get("name") == "rq_active"
        )
        for host in agent["host_statuses"]
    }
    return max(active.items(), key=lambda each: each[1])


def until_healthy(gateway: gateways.RunningGateway, count: int) -> None:
    gateways.until(lambda: count == stats(gateway)["cluster.agent.membership_healthy"], PATIENCE)


def pid_of(worker: int, gateway: gateways.RunningGateway) -> int | None:
    """The process that is this worker now."""
    return gateway.child("worker", "--index", str(worker))


def kill(worker: int, gateway: gateways.RunningGateway) -> None:
    pid = pid_of(worker, gateway)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def client(gateway: gateways.RunningGateway) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    headers = {"authorization": f"Bearer {gateways.KEY}"}
    return httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=300, limits=limits)


async def ask(http: httpx.AsyncClient, model: str, *, stream: bool) -> str:
    """What came: "whole", or what it was instead."""
    try:
        reply = await http.post("/v1/chat/completions", json={"model": model, "messages": HELLO, "stream": stream})
    except httpx.HTTPError as error:
        return type(error).__name__
    is_whole = reply.status_code == 200 and b"there" in reply.content
    return "whole" if is_whole else f"{reply.status_code} {reply.text[:200]}"


async def until(condition) -> None:
    await asyncio.to_thread(gateways.until, condition, PATIENCE)


@contextlib.asynccontextmanager
async def open_calls(http: httpx.AsyncClient, player: fault_player.FaultPlayer):
    """Calls whose first attempt goes on until the player is released."""
    models = ("guarded.held.503", "unguarded.held.503")
    tasks = [asyncio.create_task(ask(http, name, stream=n % 2 == 0)) for name in models for n in range(CALLS // 2)]
    try:
        await until(lambda: CALLS == sum(player.asked.get(name, 0) for name in models))
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_worker_that_was_stopped_for_several_health_checks_keeps_its_exchanges(running):
    gateway, player = running
    async with client(gateway) as http, open_calls(http, player) as calls:
        worker = pid_of(0, gateway)
        assert worker is not None
        os.kill(worker, signal.SIGSTOP)
        try:
            await asyncio.to_thread(until_healthy, gateway, WORKERS - 1)
            before = stats(gateway)["cluster.agent.upstream_rq_total"]
            player.release.set()
            # The retries of unguarded calls need no worker. A guard of the stopped one has yet to see the failure.
            await until(lambda: before + CALLS // 2 <= stats(gateway)["cluster.agent.upstream_rq_total"])
        finally:
            os.kill(worker, signal.SIGCONT)

        assert {"whole": CALLS} == dict(Counter(await asyncio.gather(*calls)))


async def test_a_worker_that_joins_takes_no_exchange_of_another(running):
    gateway, player = running

    def is_away() -> bool:
        kill(0, gateway)
        return stats(gateway)["cluster.agent.membership_healthy"] == WORKERS - 1

    await until(is_away)
    async with client(gateway) as http, open_calls(http, player) as calls:
        await asyncio.to_thread(until_healthy, gateway, WORKERS)
        player.release.set()

        assert {"whole": CALLS} == dict(Counter(await asyncio.gather(*calls)))


async def test_a_worker_that_leaves_ends_its_own_exchanges_and_begins_no_others(running):
    gateway, player = running
    async with client(gateway) as http, open_calls(http, player) as calls:
        worker = pid_of(0, gateway)
        assert worker is not None
        before = stats(gateway)["cluster.agent.upstream_rq_retry"]
        os.kill(worker, signal.SIGTERM)
        # It refuses what another worker can begin, and its health check goes on.
        while before == stats(gateway)["cluster.agent.upstream_rq_retry"]:
            assert "whole" == await ask(http, "good", stream=False)
        player.release.set()

        assert {"whole": CALLS} == dict(Counter(await asyncio.gather(*calls)))
        await until(lambda: pid_of(0, gateway) not in (None, worker))


async def test_a_worker_that_dies_loses_its_own_exchanges_alone_and_says_so(running):
    gateway, player = running
    async with client(gateway) as http, open_calls(http, player) as calls:
        worker, streams = busiest(gateway)
        kill(worker, gateway)
        await until(lambda: any(call.done() for call in calls))
        player.release.set()
        came = Counter(await asyncio.gather(*calls))

    # An exchange has at least one stream.
    assert CALLS - streams <= came["whole"] < CALLS
    codes = {each.partition('"code":"')[2].partition('"')[0] for each in came if each != "whole"}
    assert {"policy_unavailable", "worker_lost"} >= codes
