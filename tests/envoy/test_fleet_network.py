"""A fleet whose network is interrupted: between Envoy and an agent, and between the agents and their store of limits,
which fails over to its replica (docs/fleet.md)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import urlopen

import fleet as fleets
import pytest
from fleet import MESSAGES, WORKERS, Agent, Fleet, Outcome, held_calls, left_out, until, was_open_on_a_lost_agent
from links import Link
from ports import free_port
from redis import Redis
from valkeys import Valkey

pytestmark = [pytest.mark.envoy, pytest.mark.fleet]

AGENTS = 2
SMALL = "edge-test-key-of-tenant-small"
# Of a call: 2 tokens at $5000 a million, and a reservation of 20.
COST, BUDGET = 0.01, 1.2
CALLERS = f"""
  - tenant: small
    limits: {{dollars_per_month: {BUDGET}, fail: local}}
    keys: [{{id: small-1, key: {SMALL}}}]
"""
PRICES = "prices: [{provider: openai, model: costly, input: 0, output: 5000}]"


class Net(Fleet):
    """Each agent, and the store, is reached over a link."""

    links: dict[str, Link]
    store: Link
    store_port: int


@contextmanager
def replicated() -> Iterator[tuple[Valkey, Valkey]]:
    with Valkey() as first, Valkey("--replicaof", f"127.0.0.1 {first.port}") as second:
        yield first, second


@pytest.fixture(scope="module")
def stores() -> Iterator[tuple[Valkey, Valkey]]:
    with replicated() as both:
        yield both


@pytest.fixture(scope="module")
def started(stores: tuple[Valkey, Valkey]) -> Iterator[Net]:
    port = free_port()
    store = Link("127.0.0.1", [port])
    store.lead(port, "127.0.0.1", stores[0].port)
    with fleets.PacedProvider().running() as provider:
        models = "models:\n  costly: [{provider: openai, model: costly}]\n"
        net = Net(provider, f"redis://127.0.0.1:{port}/0", callers=CALLERS, more=PRICES)
        net.text = net.text.replace("models:\n", models, 1)
        net.links, net.store, net.store_port = {}, store, port
        try:
            for agent in net.start(AGENTS):
                behind_a_link(net, agent)
            for _ in range(2):
                net.start_envoy()
            yield net
        finally:
            net.close()
            for link in (*net.links.values(), store):
                link.close()


def behind_a_link(net: Net, agent: Agent) -> None:
    link = Link(agent.address.replace("127.0.1.", "127.0.2."), net.ports, agent.address)
    net.links[agent.address] = link
    net.seen_at[agent.address] = link.address
    net.names.addresses[net.names.addresses.index(agent.address)] = link.address


@pytest.fixture
def net(started: Net) -> Net:
    started.provider.release.clear()
    started.until_known()
    return started


def in_thread(function, *arguments):
    return asyncio.to_thread(function, *arguments)


async def test_an_agent_that_refuses_connections_takes_only_what_was_open_on_it(net: Net) -> None:
    async with held_calls(net) as calls:
        seen_at = net.envoys[0].open_streams().most_common(1)[0][0]
        link = next(link for link in net.links.values() if link.address == seen_at)
        async with net.load() as load:
            await in_thread(link.cut)
            await until(lambda: any(call.done() for call in calls))
        net.provider.release.set()
    try:
        held = [call.result() for call in calls]
        failed = [each for each in (*held, *load.outcomes) if each.why != "whole"]
        assert 0 < sum(each.why != "whole" for each in held) < len(held)
        assert [] == [(each.why, each.status, each.path) for each in failed if not was_open_on_a_lost_agent(each)]
        # It lives, and only Envoy does not reach it.
        async with net.load() as after:
            pass
        assert {} == after.reasons()
    finally:
        await in_thread(link.heal)
    await in_thread(net.until_known)
    async with net.load() as healed:
        pass
    assert {} == healed.reasons()
    assert set(net.provider.asked.values()) <= {1}


async def test_an_agent_whose_packets_are_lost_gets_no_new_calls_once_envoy_sees_it(net: Net) -> None:
    link = next(iter(net.links.values()))
    async with net.load() as before:
        await in_thread(link.stall)
        try:
            await until(lambda: all(left_out(net, link.address, n) for n in range(len(net.envoys))))
            async with net.load() as after:
                pass
            assert {} == after.reasons()
        finally:
            await in_thread(link.heal)
    await in_thread(net.until_known)
    async with net.load() as healed:
        pass

    # As with an agent that hangs: a call waits for limits.message_timeout, and may be sent again.
    assert set(before.reasons()) <= {"504 policy_unavailable", "RemoteProtocolError"}, before.failed
    assert {} == healed.reasons()
    assert set(net.provider.asked.values()) <= {1}


def gauge(agent: Agent, name: str) -> float:
    with urlopen(f"{agent.admin}/metrics") as answer:
        (value,) = re.findall(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(value)


async def spend_all(net: Net) -> list[Outcome]:
    """Calls of the small tenant at both Envoys, until as many were refused in a row as make it sure that no worker has
    anything left for it."""
    outcomes: list[Outcome] = []

    async def call_on(envoy: int) -> None:
        refused = 0
        async with net.client(envoy, key=SMALL) as http:
            while refused < 24:
                outcomes.append(await net.ask(http, MESSAGES, streamed=False, model="costly"))
                refused = 0 if outcomes[-1].why == "whole" else refused + 1

    await asyncio.gather(*(call_on(n) for n in range(len(net.envoys))))
    # Nobody is refused for want of the store.
    assert {(each.why == "whole", each.status) for each in outcomes} <= {(True, 200), (False, 429)}
    return outcomes


def spent(outcomes: list[Outcome]) -> float:
    return COST * sum(each.why == "whole" for each in outcomes)


async def test_a_store_that_fails_over_to_its_replica_fails_nobody_and_keeps_the_budget(
    net: Net, stores: tuple[Valkey, Valkey]
) -> None:
    primary, replica = stores
    agents = list(net.agents.values())
    await until(lambda: [AGENTS * WORKERS] * AGENTS == [gauge(agent, "edge_limit_shares") for agent in agents])
    before = []
    for n in range(20):
        async with net.client(n % len(net.envoys), key=SMALL) as http:
            before.append(await net.ask(http, MESSAGES, streamed=False, model="costly"))
    assert {"whole"} == {each.why for each in before}
    with Redis.from_url(primary.url) as client:
        # A replica may lack the last writes of its primary. Here it has them.
        assert 1 == await in_thread(client.wait, 1, 60_000)

    async with net.load() as load:
        await in_thread(primary.kill)
        alone = await spend_all(net)
        with Redis.from_url(replica.url) as client:
            await in_thread(client.replicaof, "NO", "ONE")
        await in_thread(net.store.lead, net.store_port, "127.0.0.1", replica.port)
        await until(lambda: all(gauge(agent, "edge_limit_store_down") == 0 for agent in agents))
        after = await spend_all(net)

    # Nobody else notices, and the budget is used up: by the shares of the workers, and then by the counters.
    assert {} == load.reasons()
    assert spent(alone) > 0
    # A share is of what was left when its worker last used the counter: at most what was spent before is missed.
    assert spent(before) + spent(alone) <= BUDGET + spent(before) + COST / 2
    total = spent(before) + spent(alone) + spent(after)
    assert BUDGET - 0.2 <= total <= BUDGET + spent(before) + COST / 2
    await until(lambda: [AGENTS * WORKERS] * AGENTS == [gauge(agent, "edge_limit_workers") for agent in agents])
