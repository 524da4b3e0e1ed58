"""The cap of a run holds for its parallel sub-agents in several workers: real processes and a real Valkey."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
import uuid

import pytest
from running_valkey import running

from edge_extproc import registry
from edge_extproc.limits.base import MAX_COUNT, LimitStoreSettings, WindowCounter, WindowCounters

CAP, WORKERS, AGENTS, CALLS = 2_000_000, 4, 50, 4

WORKER = textwrap.dedent(
    """
    import asyncio, random, sys
    from decimal import Decimal
    from edge_extproc import registry
    from edge_extproc.errors import LimitReached
    from edge_extproc.limits.base import LimitStoreSettings, ReservationRequest
    from edge_extproc.limits.rule_table import RuleTable
    from edge_extproc.limits.limiter import LimiterSettings, PolicyLimiter
    from edge_extproc.model.principal import Principal
    from edge_extproc.model.run import Run, RunCaps
    from edge_extproc.model.settlement import Settlement
    from edge_extproc.model.usage import Usage

    url, tenant, name, cap, agents, calls = *sys.argv[1:4], *map(int, sys.argv[4:])
    chance = random.Random(name)

    class Nobody:
        def __getattr__(self, _):
            return lambda *a, **k: None

    # All agents are parts of one run, some of them by way of another agent.
    async def agent(by, n, spent):
        parent = "task" if n % 2 == 0 else f"agent-{n - 1}"
        run = Run(f"agent-{n}", parent, RunCaps(requests=calls))
        for k in range(calls):
            worst = chance.randint(1, 40_000)
            cost = chance.randint(worst // 2, worst)
            exchange = f"{tenant}-{name}-{n}-{k}"
            try:
                rules = await by.with_run(Principal(tenant, f"key-{name}"), run)
                await by.admit(exchange, rules, ReservationRequest(10, worst))
            except LimitReached as error:
                assert dict(error.headers)["x-should-retry"] == "false"
                spent["refused"] += 1
                continue
            # The calls of all agents overlap in another order each time.
            await asyncio.sleep(chance.uniform(0, 0.02))
            spent["micro"] += cost
            spent["calls"] += 1
            by.settle(Settlement(exchange, "ok", 200, None, 0.0, 0.0, 0.0, provider="p", lane="raw",
                                 usage=Usage(output=1), cost=Decimal(cost) / 1_000_000))

    async def main():
        store = registry.load("limits", "redis").build(LimitStoreSettings(url, 10.0))
        by = PolicyLimiter(RuleTable([]), store, Nobody(), LimiterSettings(runs=True))
        by.start()
        who = Principal(tenant, f"key-{name}")
        # The task states its cap once, in each worker's first call, as one that costs nothing.
        rules = await by.with_run(who, Run("task", None, RunCaps(micro_dollars=cap)))
        await by.admit(f"{tenant}-{name}", rules, ReservationRequest(0, 0))
        for n in range(agents):
            parent = "task" if n % 2 == 0 else f"agent-{n - 1}"
            await by.with_run(who, Run(f"agent-{n}", parent))
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        spent = {"micro": 0, "calls": 0, "refused": 0}
        await asyncio.gather(*(agent(by, n, spent) for n in range(agents)))
        await by.close()
        print(*spent.values(), flush=True)

    asyncio.run(main())
    """
)


async def worker(url: str, tenant: str, name: int, start: asyncio.Barrier) -> tuple[int, int, int]:
    """What its agents have spent, in micro-dollars; their calls that were admitted, and those that were refused."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", WORKER, url, tenant, str(name), str(CAP), str(AGENTS), str(CALLS)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=dict(os.environ),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert b"ready\n" == await process.stdout.readline()
    await start.wait()
    process.stdin.write(b"go\n")
    micro, calls, refused = map(int, (await process.stdout.readline()).split())
    await process.wait()
    return micro, calls, refused


@pytest.mark.parametrize("seed", [1, 2])
async def test_fifty_agents_in_each_of_four_workers_spend_no_more_than_the_cap_of_their_run(seed: int) -> None:
    tenant = uuid.uuid4().hex
    with running() as valkey:
        async with asyncio.timeout(60):
            start = asyncio.Barrier(WORKERS)
            found = await asyncio.gather(*(worker(valkey.url, tenant, seed * 10 + n, start) for n in range(WORKERS)))
        store = registry.load("limits", "redis").build(LimitStoreSettings(valkey.url, 5.0))
        counter = WindowCounter(f"{tenant}:run:task:dollars:run:", "", MAX_COUNT, True, 4_000_000_000, False, "run")
        counted = await store.reserve("", WindowCounters([counter]), [0], 0, 0, "charge")
        await store.close()

    spent, calls, refused = (sum(each) for each in zip(*found, strict=True))
    assert (spent, CAP) == (counted.used[0], counted.before[0])
    # A call is refused only if it could have been too much together with those in progress.
    assert 0.5 * CAP < spent <= CAP
    # An agent's own cap is of its calls in all workers.
    assert calls <= AGENTS * CALLS
    assert refused >= (WORKERS - 1) * AGENTS * CALLS
